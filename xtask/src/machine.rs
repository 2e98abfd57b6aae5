//! Who we are on this machine, and which commands it has.

use std::{env, os::unix::fs::MetadataExt as _, process::Command};

/// A command that runs as root: itself where we are root, else by sudo.
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Whether a command is on PATH, or where only root's PATH leads.
pub fn has_command(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .any(|dir| dir.join(name).is_file())
}
