//! The programs that are judged: each works until it is told to end.

use crate::{Make, Subject};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    judged::end_file,
    postgres::Cluster,
    programs::{Program, installed, source},
    redis::Client,
    running::{PATIENCE, wait_until},
};
use std::{
    ffi::OsString,
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// In every run, with few rounds; and with all of them.
pub const SHORT: &[(&str, Make)] = &[("python3", python), ("git", git), ("tcmalloc", tcmalloc)];

/// With all rounds.
pub const LONG: &[(&str, Make)] = &[
    ("perl", perl),
    ("gcc", gcc),
    ("node", node),
    ("postgres", postgres),
    ("redis", redis),
    ("mimalloc", mimalloc),
];

/// Each runs once, through all functions of its allocator.
pub const ONCE: &[(&str, Make)] = &[("glibc's functions", family_of_glibc)];

/// The same of other allocators.
pub const REST: &[(&str, Make)] = &[
    ("tcmalloc's functions", family_of_tcmalloc),
    ("tcmalloc's operators", operators_of_tcmalloc),
    ("jemalloc's operators", operators_of_jemalloc),
    ("mimalloc's operators", operators_of_mimalloc),
];

const PLACES: [&str; 2] = ["/usr/bin", "/usr/local/bin"];

fn subject(name: &'static str, linked: PathBuf, line: Vec<OsString>) -> Subject {
    Subject { name, linked, line, code: 0, end: None, load: None }
}

/// `command` of a shell, again and again.
fn again_and_again(name: &'static str, command: &str, folder: &Path) -> Result<Subject> {
    let shell = installed("sh", &["/bin"])?;
    let end = end_file(folder);
    let script = format!(
        "while :; do test -e {end} && last=1; {command} >/dev/null || exit 9; test -z \"$last\" || exit 0; done",
        end = end.display()
    );
    Ok(subject(name, shell.clone(), vec![shell.into(), "-c".into(), script.into()]))
}

fn python(folder: &Path) -> Result<Subject> {
    let python = installed("python3", &PLACES)?;
    let line =
        vec![python.clone().into(), source("python/threads.py").into(), "4".into(), end_file(folder).into()];
    Ok(subject("python3 with four threads", python, line))
}

fn perl(folder: &Path) -> Result<Subject> {
    const SCRIPT: &str = r#"
        my $last;
        do {
            $last = -e $ARGV[0];
            my %h;
            for my $i (1..3000) { $h{$i} = "x" x ($i % 300); delete $h{$i - 500} }
            my @a = sort { $a->[1] cmp $b->[1] } map { [$_, "y$_"] } 1..1000;
            my $text = join ",", map { $_->[1] } @a;
            $text =~ s/(\d+)/<$1>/g;
        } until $last;
    "#;
    let perl = installed("perl", &PLACES)?;
    let line = vec![perl.clone().into(), "-e".into(), SCRIPT.into(), end_file(folder).into()];
    Ok(subject("perl", perl, line))
}

fn git(folder: &Path) -> Result<Subject> {
    let git = installed("git", &PLACES)?;
    let repository = folder.join("repository");
    fs::create_dir(&repository)?;
    let run = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new(&git);
        command.args(["-c", "user.name=test", "-c", "user.email=test@example.invalid"]).arg("-C");
        let output = command.arg(&repository).args(arguments).output().context("failed to run git")?;
        ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    run(&["init", "--quiet"])?;
    let mut text = String::new();
    for commit in 0..10 {
        text.push_str(&format!("line {commit}\n").repeat(25));
        fs::write(repository.join(format!("file{}", commit % 7)), &text)?;
        run(&["add", "."])?;
        run(&["commit", "--quiet", "-m", &format!("commit {commit}")])?;
    }
    let command = format!("{} --no-pager -C {} log --stat --patch", git.display(), repository.display());
    again_and_again("git log", &command, folder)
}

fn gcc(folder: &Path) -> Result<Subject> {
    let gcc = installed("gcc", &PLACES)?;
    let (from, to) = (source("c/family.c"), folder.join("family.o"));
    let command = format!("{} -O2 -c {} -o {}", gcc.display(), from.display(), to.display());
    again_and_again("gcc", &command, folder)
}

fn node(folder: &Path) -> Result<Subject> {
    const SCRIPT: &str = "
        const fs = require('fs');
        const again = () => {
            const last = fs.existsSync(process.argv[1]);
            let text = '';
            for (let i = 0; i < 2000; i++) text += JSON.stringify({i, half: i / 2});
            const kept = [];
            for (let i = 0; i < 200; i++) kept.push(Buffer.alloc(9000 + i, 1));
            if (!last) setTimeout(again, 5);
        };
        again();
    ";
    let node = installed("node", &PLACES)?;
    let line = vec![node.clone().into(), "-e".into(), SCRIPT.into(), end_file(folder).into()];
    Ok(subject("node", node, line))
}

/// The cluster of each folder, which lives as long as the test program.
static CLUSTERS: Mutex<Vec<(PathBuf, Cluster)>> = Mutex::new(Vec::new());

fn with_cluster<T>(folder: &Path, then: impl FnOnce(&Cluster) -> Result<T>) -> Result<T> {
    let clusters = CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, cluster) = clusters.iter().find(|(of, _)| of == folder).context("there is no cluster")?;
    then(cluster)
}

fn postgres(folder: &Path) -> Result<Subject> {
    let cluster = Cluster::new()?;
    let line = cluster.server()?;
    let linked = PathBuf::from(
        line.iter().find(|word| word.to_string_lossy().ends_with("/postgres")).context("no server")?,
    );
    CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner).push((folder.to_owned(), cluster));
    let load = |folder: &Path| {
        with_cluster(folder, |cluster| {
            // The first time it has to come up, and has no tables.
            if !cluster.path().join("prepared").exists() {
                wait_until(PATIENCE, || Ok(cluster.prepare().is_ok()))?;
                fs::write(cluster.path().join("prepared"), "")?;
            }
            cluster.run("pgbench", &["-n", "-c", "2", "-t", "10"]).map(drop)
        })
    };
    let end = |folder: &Path| {
        with_cluster(folder, |cluster| {
            let file = fs::read_to_string(cluster.data().join("postmaster.pid"))?;
            let pid: libc::pid_t = file.lines().next().context("the PID file is empty")?.parse()?;
            // SAFETY: the server was started by this test's recorder, and lives until this signal ends it.
            ensure!(unsafe { libc::kill(pid, libc::SIGINT) } == 0, "the server is gone");
            Ok(())
        })
    };
    Ok(Subject { load: Some(load), end: Some(end), ..subject("postgres under pgbench", linked, line) })
}

fn redis(folder: &Path) -> Result<Subject> {
    let redis = installed("redis-server", &PLACES)?;
    let mut line: Vec<OsString> = vec![redis.clone().into()];
    line.extend(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"].map(OsString::from));
    line.extend([socket(folder).into(), "--dir".into(), folder.into()]);
    let load = |folder: &Path| {
        let mut client = connect(folder)?;
        for i in 0..500 {
            let value = "v".repeat(17 + i * 7);
            ensure!(client.call(&["SET", &format!("key:{i}"), &value])? == "+OK", "redis lost a key");
            client.call(&["RPUSH", &format!("list:{}", i % 10), &value])?;
        }
        (0..10).try_for_each(|i| client.call(&["DEL", &format!("list:{i}")]).map(drop))
    };
    let end = |folder: &Path| {
        let mut client = connect(folder)?;
        // It answers by closing.
        client.call(&["SHUTDOWN", "NOSAVE"]).map(drop)
    };
    Ok(Subject { load: Some(load), end: Some(end), ..subject("redis, with jemalloc", redis, line) })
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.socket")
}

fn connect(folder: &Path) -> Result<Client<UnixStream>> {
    let mut stream = None;
    wait_until(PATIENCE, || {
        stream = UnixStream::connect(socket(folder)).ok();
        Ok(stream.is_some())
    })
    .context("redis does not serve")?;
    let stream = stream.context("no stream")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(Client::over(stream))
}

/// Threads that allocate, and children.
fn steady(name: &'static str, libraries: &'static [&'static str]) -> Result<Subject> {
    let program = Program::CLinked("steady", &[], libraries).compile()?;
    let line = vec![program.clone().into(), "3".into(), "10".into()];
    Ok(Subject { code: 21, ..subject(name, program, line) })
}

fn tcmalloc(_: &Path) -> Result<Subject> {
    steady("three threads with tcmalloc, and children", &["-ltcmalloc_minimal"])
}

fn mimalloc(_: &Path) -> Result<Subject> {
    steady("three threads with mimalloc, and children", &["-lmimalloc"])
}

fn family_of_glibc(_: &Path) -> Result<Subject> {
    let program = Program::C("family").compile()?;
    Ok(subject("every function of glibc", program.clone(), vec![program.into(), "3".into(), "300".into()]))
}

fn family_of_tcmalloc(_: &Path) -> Result<Subject> {
    let program = Program::CLinked("family", &[], &["-ltcmalloc_minimal"]).compile()?;
    Ok(subject("every function of tcmalloc", program.clone(), vec![program.into(), "3".into(), "300".into()]))
}

fn operators(name: &'static str, libraries: &'static [&'static str]) -> Result<Subject> {
    let program = Program::CppLinked("operators", libraries).compile()?;
    Ok(subject(name, program.clone(), vec![program.into(), "3".into()]))
}

fn operators_of_tcmalloc(_: &Path) -> Result<Subject> {
    operators("new and delete of tcmalloc", &["-ltcmalloc_minimal"])
}

fn operators_of_jemalloc(_: &Path) -> Result<Subject> {
    operators("new and delete of jemalloc", &["-ljemalloc"])
}

fn operators_of_mimalloc(_: &Path) -> Result<Subject> {
    operators("new and delete of mimalloc", &["-lmimalloc"])
}
