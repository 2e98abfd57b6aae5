//! The option for where names are looked for.

use super::headings::SHOWN;
use crate::{created, error::Usage, process::fetched::client_cache, symbolize::DebugDirs};
use clap::Args;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, Args)]
pub struct DebugArgs {
    /// Look for debug files here, too, as in /usr/lib/debug (.build-id/ab/cdef.debug, or by name). May be given several times.
    #[arg(long, help_heading = SHOWN, value_name = "DIR")]
    debug_dir: Vec<PathBuf>,
}

impl DebugArgs {
    /// The folders, those that are named first.
    ///
    /// # Errors
    /// If one is none.
    pub fn dirs(&self) -> Result<DebugDirs, Usage> {
        if let Some(other) = self.debug_dir.iter().find(|path| !created::is_folder(path)) {
            return Err(Usage(format!("--debug-dir {}: there is no such folder", other.display())));
        }
        let DebugDirs { dirs, .. } = DebugDirs::default();
        let dirs = self.debug_dir.iter().cloned().chain(dirs).collect();
        Ok(DebugDirs { dirs, fetched: client_cache(&|name| std::env::var_os(name)) })
    }
}
