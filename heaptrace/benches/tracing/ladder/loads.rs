//! Programs that work for a time, and say how much they did in a second.

use crate::target::{Frames, Target, compile};
use anyhow::{Context as _, Result, ensure};
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What can be started, as it is or by another program.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    Malloc { threads: &'static str },
    Json,
    Sqlite,
    Redis,
    Nginx,
    Postgres,
}

pub const LOADS: [(&str, Load); 7] = [
    ("malloc and free, 1 thread", Load::Malloc { threads: "1" }),
    ("malloc and free, 8 threads", Load::Malloc { threads: "8" }),
    ("python3, json", Load::Json),
    ("sqlite3, insert", Load::Sqlite),
    ("redis, SET", Load::Redis),
    ("nginx, a page", Load::Nginx),
    ("postgres, pgbench -S", Load::Postgres),
];

/// One that runs. Dropped, it ends.
pub enum Running {
    Told { target: Target, threads: &'static str },
    Served { server: Server, by: Client },
}

/// How work is asked of a server.
pub enum Client {
    Redis(PathBuf),
    Nginx(Target),
    Postgres(PathBuf),
}

/// A server. Dropped, it is killed: it keeps nothing.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: not waited for yet, so the id is still the child's. SIGTERM, so that what wraps it ends well.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) };
        // Nothing to be done about an error.
        let _ = self.0.wait();
    }
}

/// The interpreter itself: `python3` may be a script that executes it, and other tools lose it there.
fn python() -> Result<OsString> {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output()?;
    ensure!(output.status.success(), "python3 does not say where it is");
    let name = String::from_utf8(output.stdout)?;
    Ok(fs::canonicalize(name.trim())?.into_os_string())
}

impl Load {
    /// Starts it; `by` are the words of a program that runs it, none for itself. `folder` is its own.
    pub fn start(self, by: &[OsString], folder: &Path) -> Result<Running> {
        let told = |program: &[OsString], threads| {
            let target = Target::of(&mut command(by, program))?;
            Ok(Running::Told { target, threads })
        };
        let script = |name: &str| {
            let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/tracing/programs").join(name);
            Ok::<_, anyhow::Error>([python()?, at.into_os_string()])
        };
        match self {
            Self::Malloc { threads } => {
                told(&[compile("busy", Frames::Pointers, folder)?.into_os_string()], threads)
            }
            Self::Json => told(&script("json_loads.py")?, ""),
            Self::Sqlite => told(&script("sqlite_insert.py")?, ""),
            Self::Redis => redis(by, folder),
            Self::Nginx => nginx(by, folder, &script("nginx_load.py")?),
            Self::Postgres => postgres(by, folder),
        }
    }
}

fn command(by: &[OsString], program: &[OsString]) -> Command {
    let words: Vec<&OsString> = by.iter().chain(program).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stderr(Stdio::null());
    command
}

fn serve(by: &[OsString], program: &[OsString], ready: impl Fn() -> bool) -> Result<Server> {
    let mut command = command(by, program);
    let server = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let mut server = Server(server.with_context(|| format!("failed to start {:?}", program[0]))?);
    let started = Instant::now();
    while !ready() {
        ensure!(started.elapsed() < Duration::from_secs(60), "{:?} does not begin to serve", program[0]);
        if let Some(status) = server.0.try_wait()? {
            anyhow::bail!("{:?} ended: {status}", program[0]);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(server)
}

fn redis(by: &[OsString], folder: &Path) -> Result<Running> {
    let socket = folder.join("redis.sock");
    let program = ["redis-server", "--port", "0", "--save", "", "--unixsocket"].map(OsString::from);
    let program = [&program[..], &[socket.clone().into_os_string()]].concat();
    let server = serve(by, &program, || socket.exists())?;
    Ok(Running::Served { server, by: Client::Redis(socket) })
}

fn nginx(by: &[OsString], folder: &Path, load: &[OsString]) -> Result<Running> {
    let (socket, file) = (folder.join("nginx.sock"), folder.join("nginx.conf"));
    fs::write(folder.join("index.html"), "x".repeat(600))?;
    let folder = folder.display();
    // One process, which is then the one that is traced.
    fs::write(
        &file,
        format!(
            "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{}}\n\
             http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body;\n\
             proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
             scgi_temp_path {folder}/scgi; server {{ listen unix:{}; root {folder}; }} }}\n",
            socket.display()
        ),
    )?;
    let program = ["/usr/sbin/nginx".into(), "-c".into(), file.into_os_string()];
    let server = serve(by, &program, || socket.exists())?;
    let client = Target::of(Command::new(&load[0]).args(&load[1..]).arg(&socket))?;
    Ok(Running::Served { server, by: Client::Nginx(client) })
}

const AS_POSTGRES: [&str; 4] = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"];

/// A program of the newest postgres that is installed.
fn of_postgres(name: &str) -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .context("postgres is not installed (Debian package: postgresql)")?;
    let newest =
        versions.filter_map(|version| Some(version.ok()?.path())).max().context("no version of postgres")?;
    Ok(newest.join("bin").join(name))
}

fn as_postgres(program: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(AS_POSTGRES[0])
        .args(&AS_POSTGRES[1..])
        .arg(program)
        .args(arguments)
        .current_dir("/")
        .output()
        .with_context(|| format!("failed to run {}", program.display()))?;
    ensure!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn postgres(by: &[OsString], folder: &Path) -> Result<Running> {
    let folder = folder.join("postgres");
    fs::create_dir_all(&folder)?;
    // Another user's.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    folder.ancestors().try_for_each(|above| {
        let mode = fs::metadata(above)?.permissions().mode();
        if mode & 0o001 == 0 {
            fs::set_permissions(above, fs::Permissions::from_mode(mode | 0o011))
        } else {
            Ok(())
        }
    })?;
    let (data, place) = (folder.join("data"), folder.display().to_string());
    if !data.exists() {
        let data = data.display().to_string();
        as_postgres(&of_postgres("initdb")?, &["--auth=trust", "--no-sync", "-D", &data])?;
    }
    let mut program: Vec<OsString> = AS_POSTGRES.map(OsString::from).into();
    program.extend([of_postgres("postgres")?.into_os_string(), "-D".into(), data.into_os_string()]);
    for setting in ["listen_addresses=", "fsync=off", &format!("unix_socket_directories={place}")] {
        program.extend(["-c".into(), setting.into()]);
    }
    let socket = folder.join(".s.PGSQL.5432");
    let server = serve(by, &program, || socket.exists())?;
    thread::sleep(Duration::from_secs(1));
    let initialize = ["-h", &place, "-i", "-q", "-s", "5", "postgres"];
    as_postgres(&of_postgres("pgbench")?, &initialize)?;
    Ok(Running::Served { server, by: Client::Postgres(folder) })
}

impl Running {
    /// Of what is traced.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Told { target, .. } => target.pid(),
            Self::Served { server, .. } => server.0.id(),
        }
    }

    /// How much it does in a second, over so many.
    pub fn work(&mut self, seconds: f64) -> Result<f64> {
        match self {
            Self::Told { target, threads } => number(target, &format!("{seconds} {threads}")),
            Self::Served { by: Client::Nginx(client), .. } => number(client, &seconds.to_string()),
            Self::Served { by: Client::Redis(socket), .. } => {
                // It takes a number of requests: some for a second.
                let requests = ((60_000.0 * seconds) as u64).to_string();
                let output = Command::new("redis-benchmark")
                    .args(["-t", "set", "-r", "100000", "-d", "100", "--csv", "-n", &requests, "-s"])
                    .arg(socket)
                    .output()
                    .context("failed to run redis-benchmark")?;
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let line =
                    said.lines().find(|line| line.starts_with("\"SET\"")).context("no figure of SET")?;
                let figure = line.split(',').nth(1).context("no second field")?;
                figure.trim_matches('"').parse().context("no number")
            }
            Self::Served { by: Client::Postgres(folder), .. } => {
                // Whole seconds.
                let time = (seconds.ceil() as u64).to_string();
                let output = Command::new(of_postgres("pgbench")?)
                    .args(["-S", "-n", "-c", "4", "-U", "postgres", "-T", &time, "-h"])
                    .arg(folder)
                    .arg("postgres")
                    .output()
                    .context("failed to run pgbench")?;
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let line = said.lines().find_map(|line| line.strip_prefix("tps = ")).context("no figure")?;
                line.split_whitespace().next().context("no number")?.parse().context("no number")
            }
        }
    }
}

/// The number that a target answers with. What wraps it may say something before.
fn number(target: &mut Target, ask: &str) -> Result<f64> {
    const LINES: usize = 20;
    let mut said = target.ask(ask)?;
    for _ in 0..LINES {
        match said.parse() {
            Ok(number) => return Ok(number),
            Err(_) => said = target.hear()?,
        }
    }
    anyhow::bail!("no number in what it says: {said}")
}
