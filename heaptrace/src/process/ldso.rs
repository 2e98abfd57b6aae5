//! For a command that is to be started: which libraries its program's loader will map.

use super::command::{self, CommandError, Invocation};
use super::elf::{ElfFacts, Kind};
use super::foreign;
use super::object::{Object, ObjectError, Opened};
use rustix::{
    fs::{StatVfsMountFlags, getxattr, statvfs},
    process::{getegid, geteuid, getgid, getuid},
    thread::no_new_privs,
};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A failure to find out what a command will map.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("failed to run {} to list the libraries of {}: {source}", linker.display(), exe.display())]
    Linker { linker: PathBuf, exe: PathBuf, source: io::Error },
    #[error("{} cannot be loaded: {message}", exe.display())]
    Unloadable { exe: PathBuf, message: String },
}

/// What a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program; not the loader, where that is started with the program as its argument (ld.so(8)).
    pub exe: PathBuf,
    /// The shared objects that the loader will map, in resolution order, without `exe` itself; none for a static program.
    pub libraries: Vec<PathBuf>,
}

/// What `command` will run in the environment `env` (LD_PRELOAD and LD_LIBRARY_PATH matter). Asks the program's own
/// loader, which maps the libraries and runs none of their code but indirect functions' resolvers.
pub fn program(command: &Invocation, env: &[(OsString, OsString)]) -> Result<Program, ProgramError> {
    let exe = command.program.clone();
    let ElfFacts { kind, interpreter, soname, .. } = Object::read(Opened::at(&exe)?)?.elf;
    match (interpreter, kind) {
        (Some(linker), _) => libraries(exe, linker, Started::ByKernel, env),
        (None, Kind::StaticExecutable) => Ok(Program { exe, libraries: Vec::new() }),
        (None, Kind::DynamicExecutable | Kind::Library) => {
            let names = [soname.as_deref().map(OsStr::new), exe.file_name()];
            let is_loader = names.into_iter().flatten().any(|name| name.as_bytes().starts_with(b"ld-"));
            match by_hand(command.arguments.get(1..).unwrap_or_default()).filter(|_| is_loader) {
                Some((options, program)) => {
                    libraries(command::executable(Path::new(program))?, exe, Started::ByHand(options), env)
                }
                None => Err(ProgramError::Unloadable {
                    exe,
                    message: "it needs libraries, but names no loader".to_owned(),
                }),
            }
        }
    }
}

/// A loader's arguments parted into its options and the program that it is to run, if there is one. It looks for names
/// without a slash where it looks for libraries, and that is left to it.
fn by_hand(arguments: &[OsString]) -> Option<(&[OsString], &OsStr)> {
    const WITH_VALUE: [&str; 7] = [
        "--library-path",
        "--glibc-hwcaps-prepend",
        "--glibc-hwcaps-mask",
        "--inhibit-rpath",
        "--audit",
        "--preload",
        "--argv0",
    ];
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        if !argument.as_bytes().starts_with(b"--") {
            return argument.as_bytes().contains(&b'/').then(|| (&arguments[..at], argument.as_os_str()));
        }
        at += if WITH_VALUE.iter().any(|option| argument == option) { 2 } else { 1 };
    }
    None
}

/// Who starts a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Started<'a> {
    ByKernel,
    /// Its loader, which was given these options. It has no rights but ours, whatever the program's file says.
    ByHand(&'a [OsString]),
}

/// What `linker` maps for `exe`.
fn libraries(
    exe: PathBuf,
    linker: PathBuf,
    started: Started<'_>,
    env: &[(OsString, OsString)],
) -> Result<Program, ProgramError> {
    let options = match started {
        Started::ByKernel => &[],
        Started::ByHand(options) => options,
    };
    let absolute =
        std::path::absolute(&exe).map_err(|source| CommandError::Read { path: exe.clone(), source })?;
    let secure = started == Started::ByKernel && runs_in_secure_mode(&exe);
    let heeded = env.iter().filter(|(name, _)| !secure || !name.as_bytes().starts_with(b"LD_"));
    let output = Command::new(&linker)
        .arg("--list")
        .args(options)
        .arg(&absolute)
        .env_clear()
        .envs(heeded.map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ProgramError::Linker { linker: linker.clone(), exe: exe.clone(), source })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ProgramError::Unloadable { exe, message });
    }
    let mut libraries = parse_list(&output.stdout);
    // musl's loader is its C library; it does not list itself by a path of its own.
    if !libraries.iter().any(|library| same_file(library, &linker)) {
        libraries.push(linker);
    }
    Ok(Program { exe, libraries })
}

/// Whether `exe` gets other rights than ours, so that its loader ignores LD_PRELOAD and LD_LIBRARY_PATH
/// (`cap_bprm_creds_from_file`, security/commoncap.c; ld.so(8), secure-execution mode).
fn runs_in_secure_mode(exe: &Path) -> bool {
    let Ok(metadata) = foreign::metadata(exe) else { return false };
    let nosuid = statvfs(exe).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NOSUID));
    if nosuid || no_new_privs().unwrap_or(false) {
        return false;
    }
    let (uid, euid) = (getuid().as_raw(), geteuid().as_raw());
    let (gid, egid) = (getgid().as_raw(), getegid().as_raw());
    let mode = metadata.mode();
    // Without the group's right to execute, the bit once meant mandatory locking.
    let setgid = mode & 0o2010 == 0o2010;
    let new_uid = if mode & 0o4000 != 0 { metadata.uid() } else { euid };
    let new_gid = if setgid { metadata.gid() } else { egid };
    // Without a buffer it gives the length.
    let has_capabilities =
        || getxattr(exe, c"security.capability", &mut [0_u8; 0]).is_ok_and(|length| length > 0);
    new_uid != uid || new_gid != gid || uid != 0 && has_capabilities()
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other
        || matches!((foreign::canonical(one), foreign::canonical(other)), (Ok(one), Ok(other)) if one == other)
}

/// Reads a loader's list: `\tNAME => PATH (0xADDRESS)`, or `\tPATH (0xADDRESS)`; what has no path is the vDSO.
pub(crate) fn parse_list(output: &[u8]) -> Vec<PathBuf> {
    let lines = output.split(|byte| *byte == b'\n');
    lines.filter_map(parse_list_line).collect()
}

fn parse_list_line(line: &[u8]) -> Option<PathBuf> {
    let line = line.trim_ascii();
    let address = line.windows(4).rposition(|window| window == b" (0x")?;
    let line = &line[..address];
    let path = match line.windows(4).position(|window| window == b" => ") {
        Some(arrow) => &line[arrow + 4..],
        None => line,
    };
    path.contains(&b'/').then(|| PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
#[path = "ldso_tests.rs"]
mod tests;
