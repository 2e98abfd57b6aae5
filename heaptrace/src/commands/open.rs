//! `report --open`: the page in the browser of who asks for it. It is written and opened by a process of its own, which is
//! that user's from its beginning: under sudo nothing of root's is started that they could steer, and no file of theirs is
//! touched as root.

use crate::{created, printable::say, process::privileges, report::PAGE_END, target};
use anyhow::{Context as _, bail, ensure};
use rustix::process::geteuid;
use std::{
    env,
    fs::{self, File},
    io::{self, Read as _, Write},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How this program is told to be that process.
pub const SUBCOMMAND: &str = "opener";

/// Where a display is named.
const DISPLAYS: [&str; 2] = ["DISPLAY", "WAYLAND_DISPLAY"];

/// How long what opens the page may take to say that it cannot: it may be the browser itself, which stays.
const PATIENCE: Duration = Duration::from_secs(3);

/// The process that is given the page.
pub struct Opener {
    child: Child,
}

impl Opener {
    /// To be called before privileges are given up, as that takes them to become another user.
    ///
    /// # Errors
    /// If there is no display to show anything on, or the process cannot be started.
    pub fn start() -> anyhow::Result<Self> {
        let is_set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
        ensure!(
            DISPLAYS.iter().any(is_set),
            "no display to open the page on ({} are not set); -o heap.html writes it to a file",
            DISPLAYS.join(" and ")
        );
        let mut command = Command::new("/proc/self/exe");
        command.arg0("heaptrace").arg(SUBCOMMAND).stdin(Stdio::piped());
        let user = privileges::own_user();
        if geteuid().is_root() && user != 0 {
            let account =
                target::account(user).with_context(|| format!("no account of user {user} in /etc/passwd"))?;
            // What browsers look for their settings and their session by.
            let session = format!("/run/user/{user}");
            command.env("HOME", account.home).env("USER", &account.name).env("LOGNAME", &account.name);
            command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={session}/bus"));
            command.env("XDG_RUNTIME_DIR", session);
            for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
                command.env_remove(name);
            }
            // This leaves root's other groups, too.
            command.gid(account.group).uid(user);
        }
        Ok(Self { child: command.spawn().context("failed to start what opens the page")? })
    }

    /// Where the page is to be written to. It ends when [`Self::open`] says so, and half a page is not opened.
    ///
    /// # Errors
    /// If there is no descriptor left for it.
    pub fn page(&self) -> io::Result<File> {
        let page = self.child.stdin.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(page.as_fd().try_clone_to_owned()?.into())
    }

    /// All of the page is written: has it opened.
    ///
    /// # Errors
    /// If that failed, which was said.
    pub fn open(mut self) -> anyhow::Result<()> {
        // Closes our end first.
        let status = self.child.wait().context("failed to wait for what opens the page")?;
        ensure!(status.success(), "the page was not opened");
        Ok(())
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What that process does: takes the page from standard input to a file of its own, and has it opened if it is whole.
///
/// # Errors
/// If any of that fails.
pub fn serve() -> anyhow::Result<()> {
    let mut page = io::stdin().lock();
    let mut first = [0];
    if page.read(&mut first).context("failed to read the page")? == 0 {
        bail!("there is no page to open");
    }
    let path = place();
    let file = created::create_new(&path).with_context(|| format!("failed to create {}", path.display()))?;
    let mut whole = Whole { file, end: Vec::new() };
    let written = io::copy(&mut (&first[..]).chain(page), &mut whole)
        .with_context(|| format!("failed to write {}", path.display()));
    // Who wrote it may have been killed.
    if written.is_err() || whole.end != PAGE_END.as_bytes() {
        let _ = fs::remove_file(&path);
        written?;
        bail!("the page is not whole, as heaptrace ended before it had written all of it: nothing is opened");
    }
    drop(whole);
    let written = || format!("the page is in {}", path.display());
    let mut command = Command::new("xdg-open");
    command.arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut opening = command
        .spawn()
        .with_context(|| format!("failed to run xdg-open (Debian package: xdg-utils); {}", written()))?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = opening.try_wait().context("failed to wait for xdg-open")? {
            ensure!(
                status.success(),
                "xdg-open found nothing to show the page with ({status}); {}",
                written()
            );
            break;
        }
        sleep(Duration::from_millis(20));
    }
    say(format_args!("{}, and stays there until it is deleted", written()));
    Ok(())
}

/// A file, and what was written to it last: as much as a page ends with.
struct Whole {
    file: File,
    end: Vec<u8>,
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.end.extend_from_slice(&bytes[..written]);
        self.end.drain(..self.end.len().saturating_sub(PAGE_END.len()));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A new file's: in the folder that is the user's own while they are logged in, or in that for all.
fn place() -> PathBuf {
    let own = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| created::is_folder(folder));
    own.unwrap_or_else(env::temp_dir).join(format!("heaptrace-{}.html", std::process::id()))
}
