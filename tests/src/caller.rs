//! heaptrace run by another user than root, with capabilities or without.

use crate::{
    heaptrace,
    programs::{self, installed},
};
use anyhow::Result;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};
use tempfile::TempDir;

/// Users that need not be in any list: heaptrace's caller, and somebody else.
pub const CALLER: u32 = 64_901;
pub const OTHER: u32 = 64_902;

/// What `setpriv` is told to keep: nothing but `capabilities`, in all sets.
fn setpriv(user: u32, capabilities: &[&str]) -> Result<Command> {
    let mut set = "-all".to_owned();
    for capability in capabilities {
        set += &format!(",+{capability}");
    }
    let mut command = Command::new(installed("setpriv", &["/usr/bin", "/bin"])?);
    command
        .args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()])
        .args([format!("--inh-caps={set}"), format!("--ambient-caps={set}")])
        .arg(format!("--bounding-set={set}"));
    Ok(command)
}

/// A command that runs `program` as `user`.
pub fn as_user(user: u32, program: &Path) -> Result<Command> {
    let mut command = setpriv(user, &[])?;
    command.arg(program);
    Ok(command)
}

/// A command that runs `heaptrace` as [`CALLER`] with `capabilities` alone and without a home. `folder` is of
/// [`open_folder`] and gets the binary: the build folder may be closed to others.
pub fn heaptrace(capabilities: &[&str], arguments: &[&str], folder: &Path) -> Result<Command> {
    let binary = folder.join("heaptrace");
    if !binary.exists() {
        copy(heaptrace::binary()?, &binary)?;
    }
    let mut command = setpriv(CALLER, capabilities)?;
    command.arg(binary).args(arguments).env_remove("HOME").env_remove("XDG_CACHE_HOME");
    Ok(command)
}

/// Copies a program so that everybody can run it.
pub fn copy(program: &Path, to: &Path) -> Result<()> {
    programs::copy(program, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A folder that everybody can write to.
pub fn open_folder() -> Result<TempDir> {
    let folder = TempDir::new()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    Ok(folder)
}
