//! A PostgreSQL server of a test's own, which refuses to run as root and forks a process for each connection.

use crate::{
    programs::installed,
    running::{Running, wait_while_running},
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Of [`Cluster::load`].
pub const CLIENTS: u32 = 4;
const TRANSACTIONS: u32 = 200;

/// A database cluster of its own, reached by a socket in its folder.
pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
}

impl Cluster {
    pub fn new() -> Result<Self> {
        let folder = TempDir::new()?;
        let (user, group) = account("postgres")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(folder.path().join("server"))?;
        chown(folder.path().join("server"), Some(user), Some(group))?;
        let cluster = Self { folder, programs: newest()? };
        let data = cluster.data();
        cluster.run("initdb", &["--auth=trust", "--no-sync", "--no-instructions", "-D", text(&data)?])?;
        Ok(cluster)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("server")
    }

    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.socket().join("data")
    }

    /// `program` of this PostgreSQL, to be run as its user.
    fn command_line(&self, program: &str) -> Result<Vec<OsString>> {
        let mut line = vec![installed("setpriv", &["/usr/bin"])?.into_os_string()];
        line.extend(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"].map(OsString::from));
        line.push(installed(program, &[&self.programs])?.into());
        Ok(line)
    }

    /// The command that is the server, and its arguments.
    pub fn server(&self) -> Result<Vec<OsString>> {
        let mut line = self.command_line("postgres")?;
        let socket = format!("unix_socket_directories={}", text(&self.socket())?);
        let settings = ["listen_addresses=", &socket, "fsync=off", "shared_buffers=16MB"];
        line.extend(["-D".into(), self.data().into()]);
        settings.iter().for_each(|setting| line.extend(["-c".into(), setting.into()]));
        Ok(line)
    }

    /// Runs a client program to its end; its output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let line = self.command_line(program)?;
        let output = Command::new(&line[0])
            .args(&line[1..])
            .args(arguments)
            .current_dir(self.path())
            .env("PGHOST", self.socket())
            .env("PGDATABASE", "postgres")
            .output()
            .with_context(|| format!("failed to run {program}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!(
                "{program} ended with {}\n{said}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(said)
    }

    /// A server that serves, with the benchmark's tables.
    pub fn serving(&self) -> Result<Running> {
        let line = self.server()?;
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).current_dir(self.path());
        let mut server = Running::spawn(command, "postgres", self.path())?;
        self.wait_until_serving(&mut server)?;
        self.prepare()?;
        Ok(server)
    }

    /// Waits until the server that `process` is, or runs, serves.
    pub fn wait_until_serving(&self, process: &mut Running) -> Result<()> {
        wait_while_running(process, "serve", || self.run("psql", &["-qc", "SELECT 1"]).is_ok())
    }

    /// Fills the benchmark's tables.
    pub fn prepare(&self) -> Result<()> {
        self.run("pgbench", &["-i", "-q", "-s", "1"]).map(drop)
    }

    pub fn load(&self) -> Result<()> {
        let said =
            self.run("pgbench", &["-n", "-c", &CLIENTS.to_string(), "-t", &TRANSACTIONS.to_string()])?;
        let all = CLIENTS * TRANSACTIONS;
        ensure!(said.contains(&format!("{all}/{all}")), "transactions are missing\n{said}");
        Ok(())
    }

    pub fn serves(&self) -> Result<()> {
        let count = self.run("psql", &["-Atc", "SELECT count(*) FROM pgbench_history"])?;
        ensure!(count.trim() == (CLIENTS * TRANSACTIONS).to_string(), "the history holds {count}");
        Ok(())
    }
}

/// The server's log tells of children that did not end by themselves.
pub fn no_crash(log: &str) -> Result<()> {
    ensure!(!log.contains("was terminated by signal"), "a backend crashed\n{log}");
    Ok(())
}

/// The folder of the newest PostgreSQL's programs.
fn newest() -> Result<PathBuf> {
    const ROOT: &str = "/usr/lib/postgresql";
    let versions = fs::read_dir(ROOT).context("PostgreSQL is not installed (Debian package: postgresql)")?;
    let names = versions.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest = names.filter_map(|name| name.parse::<u32>().ok()).max();
    Ok(Path::new(ROOT)
        .join(newest.context("PostgreSQL is not installed (Debian package: postgresql)")?.to_string())
        .join("bin"))
}

/// User and group id of a local account.
fn account(name: &str) -> Result<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd")?;
    let line = accounts.lines().find(|line| line.split(':').next() == Some(name));
    let fields: Vec<&str> = line.with_context(|| format!("no user {name}"))?.split(':').collect();
    match fields[..] {
        [_, _, user, group, ..] => Ok((user.parse()?, group.parse()?)),
        _ => bail!("/etc/passwd is malformed"),
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}
