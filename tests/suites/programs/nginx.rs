//! nginx: a master that forks workers, replaced on reload.

use crate::sanity::{self, children};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::installed,
    running::{PATIENCE, Running, wait_while_running},
    session::Start,
};
use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};
use tempfile::TempDir;

const REQUESTS: usize = 400;
const BODY: &str = "served as ever\n";

struct Site {
    folder: TempDir,
    port: u16,
}

impl Site {
    fn new() -> Result<Self> {
        let site = Self { folder: TempDir::new()?, port: sanity::free_port()? };
        let (folder, port) = (site.path().display(), site.port);
        fs::write(site.path().join("page.txt"), BODY)?;
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
            .collect();
        fs::write(
            site.path().join("nginx.conf"),
            format!(
                "user root; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log;
                 events {{ worker_connections 64; }}
                 http {{ access_log off; {temporary} gzip on; gzip_min_length 1; gzip_types text/plain;
                 default_type text/plain;
                 server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
            ),
        )?;
        Ok(site)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command_line(&self) -> Result<Vec<OsString>> {
        let mut line = vec![installed("nginx", &["/usr/sbin"])?.into_os_string()];
        line.extend(["-p".into(), self.path().into(), "-c".into(), self.path().join("nginx.conf").into()]);
        line.extend(["-g".into(), "daemon off;".into()]);
        Ok(line)
    }

    /// One page, as a client that asks for compression (zlib allocates for each response) or not.
    fn request(&self, compressed: bool) -> Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let accept = if compressed { "Accept-Encoding: gzip\r\n" } else { "" };
        write!(stream, "GET /page.txt HTTP/1.1\r\nHost: localhost\r\n{accept}Connection: close\r\n\r\n")?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response)?;
        let text = String::from_utf8_lossy(&response);
        ensure!(text.starts_with("HTTP/1.1 200"), "nginx answers {text:?}");
        ensure!(compressed || text.ends_with(BODY), "nginx serves something else: {text:?}");
        Ok(())
    }

    fn load(&self) -> Result<()> {
        (0..REQUESTS).try_for_each(|i| self.request(i % 2 == 0))
    }

    fn wait_until_serving(&self, process: &mut Running) -> Result<()> {
        wait_while_running(process, "serve", || self.request(false).is_ok())
    }
}

pub fn attached_under_load() -> Result<()> {
    let site = Site::new()?;
    let line = site.command_line()?;
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    let mut nginx = Running::spawn(command, "nginx", site.path())?;
    site.wait_until_serving(&mut nginx)?;
    let master = nginx.pid();
    let before = children(master)?;

    let mut recorder = heaptrace::attach(&[master], &[], site.path())?;
    // A reload makes the master parse its configuration and fork workers, which are followed.
    nginx.signal(libc::SIGHUP)?;
    let workers = sanity::wait_for("new workers", || {
        let now = children(master).ok()?;
        (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(now)
    })?;
    sanity::wait_until_probed(&workers, || site.request(true))?;
    site.load()?;
    let mut pids = workers.clone();
    pids.push(master);
    let resident = sanity::resident(&pids)?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;

    site.load().context("nginx does not serve after heaptrace has left")?;
    ensure!(children(master)? == workers, "a worker was replaced");
    nginx.signal(libc::SIGQUIT)?;
    let status = nginx.wait()?;
    ensure!(status.success(), "{}", nginx.describe(&format!("ended with {status}")));

    let report = heaptrace::report(site.path())?;
    sanity::check(&report, &resident, Start::Attach)?;
    sanity::allocating_children(&report, master)?;
    let parsed = report.process(master).context("the master is not in the report")?;
    ensure!(parsed.alloc_count > 0, "the master parsed its configuration without allocating: {parsed:?}");
    Ok(())
}

pub fn from_the_start() -> Result<()> {
    let site = Site::new()?;
    let mut command = heaptrace::command(&["record", "-o"])?;
    command.arg(heaptrace::record_file(site.path())).args(heaptrace::COMMAND).args(site.command_line()?);
    let mut recorder = Running::spawn(command, "heaptrace", site.path())?;
    site.wait_until_serving(&mut recorder)?;
    let pid_file = fs::read_to_string(site.path().join("pid"))?;
    let master: u32 = pid_file.trim().parse().context("nginx wrote a bad PID file")?;
    let workers = children(master)?;
    sanity::wait_until_probed(&workers, || site.request(true))?;
    site.load()?;
    let mut pids = workers.clone();
    pids.push(master);
    let resident = sanity::resident(&pids)?;
    // SAFETY: the master was started by this test's recorder, and lives until this signal ends it.
    ensure!(unsafe { libc::kill(master as libc::pid_t, libc::SIGQUIT) } == 0, "the master is gone");
    heaptrace::finish(&mut recorder)?;

    let report = heaptrace::report(site.path())?;
    sanity::check(&report, &resident, Start::Command)?;
    sanity::allocating_children(&report, master)?;
    let traced = report.process(master).context("the master is not in the report")?;
    ensure!(
        traced.alloc_count > 100 && traced.unknown_frees == 0,
        "the master was not seen whole: {traced:?}"
    );
    Ok(())
}
