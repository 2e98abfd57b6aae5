//! Marks: named moments in recordings that run. Each recording listens at a socket in a folder that is its user's alone, and takes
//! names from it once a second; so nobody else's recordings are reached, and nobody else reaches ours.

use crate::{
    created,
    model::{Cases, Chunk, Note, Notes},
    printable::printable,
};
use rustix::process::geteuid;
use std::{
    env, fs, io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process,
};

/// The longest name, in bytes: a line that people read.
pub const LONGEST: usize = 100;

/// Names taken at one time; what comes beyond that is taken a second later.
const AT_ONCE: usize = 64;

/// How the name of a socket ends; before that is the PID of who listens.
const SOCKET: &str = "sock";

/// Where the sockets of our user's recordings are.
fn folder() -> io::Result<PathBuf> {
    if geteuid().is_root() {
        return Ok("/run/heaptrace".into());
    }
    let own = env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    own.map(|folder| Path::new(&folder).join("heaptrace"))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "XDG_RUNTIME_DIR is not set"))
}

/// The marks of a recording that runs.
pub struct Marks {
    /// `None` where there can be no socket: a recording goes on without.
    socket: Option<(UnixDatagram, PathBuf)>,
    notes: Notes,
}

impl Marks {
    pub fn listen() -> Self {
        Self { socket: socket().ok(), notes: Notes::default() }
    }

    /// Names that have come since the last time.
    pub fn come(&self) -> Vec<String> {
        let Some((socket, _)) = &self.socket else { return Vec::new() };
        let mut names = Vec::new();
        let mut name = [0; LONGEST];
        while names.len() < AT_ONCE
            && let Ok(length) = socket.recv(&mut name)
        {
            let name = String::from_utf8_lossy(&name[..length]);
            names.push(printable(&name).into_owned());
        }
        names
    }

    /// Puts all marks so far into a chunk: `new` ones are of its moment.
    pub fn put(&mut self, new: Vec<String>, chunk: &mut Chunk) {
        for name in new {
            // Those that find no room are not counted for ever.
            let note = Note::Marked { at_ns: chunk.duration_ns, name };
            if self.notes.count_like(&note) < Cases::KEPT as u64 {
                self.notes.take(note);
            }
        }
        chunk.coverage.notes.merge(&self.notes);
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.socket {
            // One that stays is removed by who finds nobody there.
            let _ = fs::remove_file(path);
        }
    }
}

fn socket() -> io::Result<(UnixDatagram, PathBuf)> {
    let folder = folder()?;
    created::own_folder(&folder)?;
    let path = folder.join(format!("{}.{SOCKET}", process::id()));
    // Of an earlier process with our PID.
    let _ = fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path)?;
    socket.set_nonblocking(true)?;
    Ok((socket, path))
}

/// What became of a mark.
#[derive(Debug, Default)]
pub struct Sent {
    /// Recordings that have it.
    pub taken: u64,
    /// Who did not take it, with the reason.
    pub refused: Vec<(String, io::Error)>,
}

/// Sends `name` to the recordings of our user, or to the one by process `pid` alone.
///
/// # Errors
/// If there can be no socket.
pub fn send(name: &str, pid: Option<u32>) -> io::Result<Sent> {
    let Ok(sockets) = folder().and_then(|folder| created::own_entries(&folder)) else {
        return Ok(Sent::default());
    };
    let from = UnixDatagram::unbound()?;
    // A recording that takes nothing is not waited for.
    from.set_nonblocking(true)?;
    let mut sent = Sent::default();
    for path in sockets {
        let of = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u32>().ok());
        let Some(of) = of.filter(|_| path.extension().is_some_and(|ending| ending == SOCKET)) else {
            continue;
        };
        if pid.is_some_and(|pid| pid != of) {
            continue;
        }
        match from.send_to(name.as_bytes(), &path) {
            Ok(_) => sent.taken += 1,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let _ = fs::remove_file(&path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => sent.refused.push((format!("process {of}"), error)),
        }
    }
    Ok(sent)
}
