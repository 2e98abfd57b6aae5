//! Where debuginfod's client keeps what it has fetched, if nobody but this user and root can have put anything there: a build
//! ID proves of which build a debug file is, and not that its names are true.

use crate::process::foreign;
use std::{
    ffi::OsString,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The folder, as debuginfod_find_debuginfo(3) has it; `variable` is of the environment.
pub fn client_cache(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let within = |folder: PathBuf| folder.join("debuginfod_client");
    let folder = path("DEBUGINFOD_CACHE_PATH")
        .or_else(|| path("XDG_CACHE_HOME").map(within))
        .or_else(|| path("HOME").map(|home| within(home.join(".cache"))))?;
    let folder = foreign::canonical(&folder).ok()?;
    is_ours_alone(&folder, rustix::process::geteuid().as_raw()).then_some(folder)
}

/// Whether each folder down to this one, which no link leads to, is root's or `own`, and none that others may change.
fn is_ours_alone(folder: &Path, own: u32) -> bool {
    folder.is_absolute()
        && folder.ancestors().all(|folder| {
            foreign::metadata(folder).is_ok_and(|of| {
                // In one like /tmp nobody can rename what is another's.
                let is_changed_by_others = of.mode() & 0o022 != 0 && of.mode() & libc::S_ISVTX == 0;
                of.is_dir() && !is_changed_by_others && (of.uid() == 0 || of.uid() == own)
            })
        })
        // Where anybody may make files, what is there may be anybody's.
        && foreign::metadata(folder).is_ok_and(|of| of.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn the_cache_is_where_its_client_has_it_and_nobody_elses() {
        let home = tempfile::TempDir::new().expect("folder");
        let home = home.path().canonicalize().expect("path");
        let cache = home.join(".cache/debuginfod_client");
        fs::create_dir_all(&cache).expect("folders");
        let other = home.join("other");
        fs::create_dir(&other).expect("folder");
        let found = |variables: &[(&str, &Path)]| {
            client_cache(&|name| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, path)| path.as_os_str().to_owned())
            })
        };
        assert_eq!(found(&[("HOME", &home)]), Some(cache.clone()));
        assert_eq!(found(&[("HOME", &home), ("DEBUGINFOD_CACHE_PATH", &other)]), Some(other.clone()));
        assert_eq!(found(&[("XDG_CACHE_HOME", &home.join(".cache"))]), Some(cache.clone()));
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("HOME", &other)]), None, "it is not there");
        for (folder, mode) in [(&cache, 0o777), (&cache, 0o1777), (&home.join(".cache"), 0o775)] {
            let before = fs::metadata(folder).expect("folder").permissions();
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("mode");
            assert_eq!(found(&[("HOME", &home)]), None, "{mode:o}");
            fs::set_permissions(folder, before).expect("mode");
        }
        assert!(
            !is_ours_alone(&cache, rustix::process::geteuid().as_raw() + 1)
                || fs::metadata(&cache).expect("folder").uid() == 0
        );
    }
}
