//! A terminal without anybody before it: programs run on it, keys go in, and what a person would see comes out.

use crate::running::{PATIENCE, wait_until};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    num::NonZeroU16,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use vt100::{Parser, Screen};

/// How long what an ended program wrote may take to reach the screen.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A program on a terminal of its own. It is killed when this is dropped.
pub struct Terminal {
    keys: File,
    /// The program's end: kept open, so that the terminal's state can be looked at after the program has ended.
    slave: OwnedFd,
    screen: Arc<Mutex<Parser>>,
    child: Child,
    status: Option<ExitStatus>,
}

impl Terminal {
    /// Runs `command` on a terminal of `(columns, lines)`.
    pub fn run(mut command: Command, size: (u16, u16)) -> Result<Self> {
        let (master, slave) = open(size)?;
        let screen = Arc::new(Mutex::new(Parser::new(cells(size.1)?, cells(size.0)?, 0)));
        let (shared, mut output) = (Arc::clone(&screen), File::from(master.try_clone()?));
        thread::spawn(move || {
            let mut bytes = [0; 1 << 14];
            let mut held = Vec::new();
            // The end is an error (EIO): nobody holds the other side any more.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                held.extend_from_slice(&bytes[..count]);
                let whole = whole_frames(&held);
                lock(&shared).process(&held[..whole]);
                held.drain(..whole);
            }
            lock(&shared).process(&held);
        });
        let terminal = slave.as_raw_fd();
        command
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave.try_clone()?))
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR");
        // SAFETY: setsid and ioctl are async-signal-safe; the descriptor is the child's copy.
        unsafe {
            command.pre_exec(move || {
                if libc::setsid() < 0 || libc::ioctl(terminal, libc::TIOCSCTTY, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        Ok(Self { keys: File::from(master), slave, screen, child, status: None })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types `keys`; `\x1b` and what follows are function keys.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).context("failed to type")
    }

    /// What is on the screen, one line each, without blanks at the end.
    pub fn text(&self) -> String {
        self.with_screen(|screen| {
            let (_, columns) = screen.size();
            screen.rows(0, columns.get()).map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
        })
    }

    /// Looks at the screen itself.
    pub fn with_screen<T>(&self, look: impl FnOnce(&Screen) -> T) -> T {
        look(lock(&self.screen).screen())
    }

    /// Waits for a screen that `wanted` accepts, and gives it.
    pub fn wait_for(&mut self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> Result<String> {
        let mut text = String::new();
        let mut ended = None;
        wait_until(PATIENCE, || {
            ended = self.poll()?;
            text = self.text();
            Ok(wanted(&text) || ended.is_some())
        })
        .with_context(|| format!("no screen with {what}; the last one:\n{}", self.text()))?;
        match ended {
            // Its last words may still be on their way.
            Some(_) if wait_until(LAST_WORDS, || Ok(wanted(&self.text()))).is_ok() => Ok(self.text()),
            Some(status) => {
                bail!("ended ({status}) without a screen with {what}; the last one:\n{text}")
            }
            None => Ok(text),
        }
    }

    /// The same, for a text on it.
    pub fn wait_for_text(&mut self, text: &str) -> Result<String> {
        self.wait_for(&format!("{text:?}"), |screen| screen.contains(text))
    }

    /// Makes the terminal another size, as a person with a mouse would.
    pub fn resize(&mut self, size: (u16, u16)) -> Result<()> {
        lock(&self.screen).screen_mut().set_size(cells(size.1)?, cells(size.0)?);
        let size = window(size);
        // SAFETY: the descriptor is open, and the pointer valid. The kernel sends SIGWINCH to the program.
        let result = unsafe { libc::ioctl(self.keys.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        ensure!(result == 0, "failed to resize: {}", io::Error::last_os_error());
        Ok(())
    }

    /// The terminal's modes (echo, lines, signals ...) as they are now.
    pub fn modes(&self) -> Result<[u32; 4]> {
        // SAFETY: plain data.
        let mut modes: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, and the pointer valid.
        let result = unsafe { libc::tcgetattr(self.slave.as_raw_fd(), &raw mut modes) };
        ensure!(result == 0, "failed to read the modes: {}", io::Error::last_os_error());
        Ok([modes.c_iflag, modes.c_oflag, modes.c_cflag, modes.c_lflag])
    }

    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        ensure!(self.status.is_none(), "it has ended");
        // SAFETY: the child has not been waited for, so the id is still its own.
        let result = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        ensure!(result == 0, "failed to send a signal: {}", io::Error::last_os_error());
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait().context("failed to wait for a process")?;
        }
        Ok(self.status)
    }

    /// Waits for the program's end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        wait_until(PATIENCE, || {
            status = self.poll()?;
            Ok(status.is_some())
        })
        .with_context(|| format!("it did not end; the screen:\n{}", self.text()))?;
        status.context("no exit status")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.status.is_none() {
            // Nothing to be done about errors here.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// How many of `bytes` can be shown: a frame (DEC private mode 2026) from its end on, what is outside of one at once.
fn whole_frames(bytes: &[u8]) -> usize {
    const BEGIN: &[u8] = b"\x1b[?2026h";
    const END: &[u8] = b"\x1b[?2026l";
    let last = |mark: &[u8]| bytes.windows(mark.len()).rposition(|window| window == mark);
    match (last(BEGIN), last(END)) {
        (Some(begin), None) => begin,
        (Some(begin), Some(end)) if end < begin => begin,
        // A mark may have come in part.
        _ => (1..BEGIN.len())
            .rev()
            .find(|part| bytes.ends_with(&BEGIN[..*part]))
            .map_or(bytes.len(), |part| bytes.len() - part),
    }
}

fn lock(screen: &Mutex<Parser>) -> MutexGuard<'_, Parser> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cells(count: u16) -> Result<NonZeroU16> {
    NonZeroU16::new(count).context("a terminal has a column and a line")
}

fn window((columns, lines): (u16, u16)) -> libc::winsize {
    libc::winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn open(size: (u16, u16)) -> Result<(OwnedFd, OwnedFd)> {
    let (mut master, mut slave) = (-1, -1);
    let size = window(size);
    // SAFETY: valid pointers to locals, or none.
    let result = unsafe {
        libc::openpty(
            &raw mut master,
            &raw mut slave,
            std::ptr::null_mut(),
            std::ptr::null(),
            &raw const size,
        )
    };
    ensure!(result == 0, "no terminal: {}", io::Error::last_os_error());
    // SAFETY: both are new and nobody else's. Neither is to be the child's: that has copies as its standard streams.
    let (master, slave) = unsafe {
        libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
        (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    };
    Ok((master, slave))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_frame_is_held_back_until_its_end() {
        let shown = |bytes: &str| bytes[..whole_frames(bytes.as_bytes())].to_owned();
        assert_eq!(shown("outside"), "outside");
        assert_eq!(shown("a\x1b[?2026hfra"), "a");
        assert_eq!(shown("a\x1b[?2026hframe\x1b[?2026lb"), "a\x1b[?2026hframe\x1b[?2026lb");
        assert_eq!(shown("\x1b[?2026hone\x1b[?2026l\x1b[?2026htw"), "\x1b[?2026hone\x1b[?2026l");
        assert_eq!(shown("a\x1b[?20"), "a");
        assert_eq!(shown("a\x1b[?25h"), "a\x1b[?25h");
    }
}
