//! Which file a command runs: found as execvp(3) finds it, by the rights that its exec will have, and followed through
//! `#!` lines to the program. Nothing is run.

use super::foreign;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{}: command not found on PATH", name.display())]
    NotFound { name: OsString },
    #[error("{}: {why}", path.display())]
    NotExecutable { path: PathBuf, why: NotExecutable },
    #[error("the interpreter of {}, {}: {why}", script.display(), interpreter.display())]
    Interpreter { script: PathBuf, interpreter: PathBuf, why: NotExecutable },
    #[error("failed to read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: its interpreter lines lead through more than {MAX_INTERPRETERS} scripts", path.display())]
    TooManyInterpreters { path: PathBuf },
    #[error("{}: neither a program nor a script", path.display())]
    NoFormat { path: PathBuf },
}

/// What keeps a path from being executed.
#[derive(Debug)]
pub enum NotExecutable {
    Missing,
    Folder,
    /// A device, a pipe or a socket.
    NoFile,
    /// Nobody may execute it.
    NoMode,
    /// We may not, or nobody may on this file system (`noexec`).
    Other(io::Error),
    /// A folder on the way is closed to us.
    Unreachable(io::Error),
}

impl fmt::Display for NotExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no such file"),
            Self::Folder => f.write_str("is a directory"),
            Self::NoFile => f.write_str("is not a regular file"),
            Self::NoMode => f.write_str("is not an executable file (chmod +x makes it one)"),
            Self::Other(error) | Self::Unreachable(error) => error.fmt(f),
        }
    }
}

/// How many interpreter lines the kernel follows (fs/exec.c, `exec_binprm`).
const MAX_INTERPRETERS: usize = 4;

/// How much of a script's first line the kernel reads (`BINPRM_BUF_SIZE`).
const LINE_BYTES: u64 = 256;

/// Where execvp looks if there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// What execvp runs a file with that the kernel knows no format for (`_PATH_BSHELL`).
const SHELL: &str = "/bin/sh";

/// What an exec is given, and what it comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The file to exec: the command's own, or [`SHELL`] for a script that names no interpreter.
    pub file: PathBuf,
    pub arguments: Vec<OsString>,
    /// The program that then runs: `file`, or the interpreter that its `#!` lines lead to. A script of
    /// `#!/usr/bin/env python3` yields `/usr/bin/env`, which then execs.
    pub program: PathBuf,
}

/// What it takes to run `command`, a name and arguments; `path` is the value of PATH.
///
/// # Errors
/// If its exec would fail. What changes until then is found by the exec itself.
pub fn resolve(command: &[OsString], path: Option<&OsStr>) -> Result<Invocation, CommandError> {
    let name = command.first().map_or(OsStr::new(""), OsString::as_os_str);
    let file = find(name, path)?;
    if let Some(program) = followed(&file)? {
        return Ok(Invocation { file, arguments: command.to_vec(), program });
    }
    // A shell, too, looks whether it could be a text.
    if start_of(&file)?.split(|byte| *byte == b'\n').next().is_some_and(|line| line.contains(&0)) {
        return Err(CommandError::NoFormat { path: file });
    }
    let shell = executable(Path::new(SHELL))?;
    let program = followed(&shell)?.ok_or_else(|| CommandError::NoFormat { path: shell.clone() })?;
    let rest = command.get(1..).unwrap_or_default().iter().cloned();
    let arguments = [SHELL.into(), not_an_option(file).into_os_string()].into_iter().chain(rest).collect();
    Ok(Invocation { file: shell, arguments, program })
}

/// `path`, if it can be executed by us.
///
/// # Errors
/// If it cannot.
pub fn executable(path: &Path) -> Result<PathBuf, CommandError> {
    match judge(path) {
        Ok(()) => Ok(path.to_owned()),
        Err(why) => Err(CommandError::NotExecutable { path: path.to_owned(), why }),
    }
}

fn find(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, CommandError> {
    if name.as_bytes().contains(&b'/') {
        return executable(Path::new(name));
    }
    let not_found = CommandError::NotFound { name: name.to_owned() };
    if name.is_empty() {
        return Err(not_found);
    }
    let mut first_bad = None;
    for folder in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        // An empty entry is the current directory; so is what joining makes of it.
        match executable(&folder.join(name)) {
            Ok(found) => return Ok(found),
            // A folder of PATH that we cannot look into is passed over, as by shells.
            Err(CommandError::NotExecutable {
                why: NotExecutable::Missing | NotExecutable::Unreachable(_),
                ..
            }) => {}
            Err(bad) => {
                first_bad.get_or_insert(bad);
            }
        }
    }
    Err(first_bad.unwrap_or(not_found))
}

/// Whether an exec of ours would take the file, whatever it holds (`do_open_execat`, fs/exec.c).
fn judge(path: &Path) -> Result<(), NotExecutable> {
    let metadata = foreign::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NotExecutable::Missing,
        _ => NotExecutable::Unreachable(error),
    })?;
    if metadata.is_dir() {
        return Err(NotExecutable::Folder);
    }
    if !metadata.is_file() {
        return Err(NotExecutable::NoFile);
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(NotExecutable::NoMode);
    }
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|error| NotExecutable::Other(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    // SAFETY: a NUL-terminated path. Root may execute what anybody may; others may not, and nobody on `noexec`.
    match unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::X_OK, libc::AT_EACCESS) } {
        0 => Ok(()),
        _ => Err(NotExecutable::Other(io::Error::last_os_error())),
    }
}

/// The program at the end of the `#!` lines from `file` on; `None` if that is in no format that the kernel knows.
fn followed(file: &Path) -> Result<Option<PathBuf>, CommandError> {
    let mut program = file.to_owned();
    for _ in 0..=MAX_INTERPRETERS {
        let start = start_of(&program)?;
        let Some(interpreter) = parse_interpreter_line(&start) else {
            return Ok(start.starts_with(b"\x7fELF").then_some(program));
        };
        if let Err(why) = judge(&interpreter) {
            return Err(CommandError::Interpreter { script: program, interpreter, why });
        }
        program = interpreter;
    }
    Err(CommandError::TooManyInterpreters { path: program })
}

fn start_of(path: &Path) -> Result<Vec<u8>, CommandError> {
    let mut start = Vec::new();
    foreign::open(path)
        .and_then(|file| file.take(LINE_BYTES).read_to_end(&mut start))
        .map_err(|source| CommandError::Read { path: path.to_owned(), source })?;
    Ok(start)
}

/// The interpreter that the file's first line names, if it is a script.
pub(crate) fn parse_interpreter_line(start: &[u8]) -> Option<PathBuf> {
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?.trim_ascii_start();
    let name = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\0' | b'\r')).next()?;
    (!name.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(name)))
}

/// The same file, by a path that a shell does not take for an option.
fn not_an_option(file: PathBuf) -> PathBuf {
    match file.as_os_str().as_bytes().first() {
        Some(b'-' | b'+') => Path::new(".").join(file),
        _ => file,
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
