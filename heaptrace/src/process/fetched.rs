//! Where debuginfod's client keeps what it has fetched, if nobody but this user and root can have put anything there: a build
//! ID proves of which build a debug file is, and not that its names are true.

use super::foreign::{self, Links};
use crate::model::BuildId;
use std::{
    ffi::OsString,
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The folder, as debuginfod_find_debuginfo(3) has it; `variable` is of the environment.
pub fn client_cache(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let within = |folder: PathBuf| folder.join("debuginfod_client");
    // It was there before the other two, and is kept to where there is one.
    let former =
        || path("HOME").map(|home| home.join(".debuginfod_client_cache")).filter(|it| foreign::is_there(it));
    let folder = path("DEBUGINFOD_CACHE_PATH")
        .or_else(former)
        .or_else(|| path("XDG_CACHE_HOME").map(within))
        .or_else(|| path("HOME").map(|home| within(home.join(".cache"))))?;
    let folder = foreign::canonical(&folder).ok()?;
    is_ours_alone(&folder, rustix::process::geteuid().as_raw()).then_some(folder)
}

/// The debug file of a build in that folder: no link leads to it, nor may others change it.
pub fn debug_file(cache: &Path, id: &BuildId) -> Option<File> {
    let own = rustix::process::geteuid().as_raw();
    let folder = cache.join(id.to_string());
    let file = foreign::open_by_name(&folder.join("debuginfo"), Links::Refused).ok()?;
    let of = file.metadata().ok()?;
    let is_ours = of.mode() & 0o022 == 0 && (of.uid() == 0 || of.uid() == own);
    (is_ours && is_ours_alone(&folder, own)).then_some(file)
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
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

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
        let former = other.join(".debuginfod_client_cache");
        fs::create_dir(&former).expect("folder");
        assert_eq!(
            found(&[("HOME", &other), ("XDG_CACHE_HOME", &home.join(".cache"))]),
            Some(former.clone())
        );
        fs::remove_dir(&former).expect("folder");
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

    #[test]
    fn a_debug_file_that_others_may_change_or_a_link_leads_to_is_none() {
        let cache = tempfile::TempDir::new().expect("folder");
        let cache = cache.path().canonicalize().expect("path");
        let id = BuildId(vec![0xab, 1]);
        let folder = cache.join("ab01");
        let path = folder.join("debuginfo");
        let is_found = || debug_file(&cache, &id).is_some();
        fs::create_dir(&folder).expect("folder");
        fs::write(&path, "x").expect("file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("mode");
        assert!(is_found());
        for (path, mode, before) in [(&path, 0o666, 0o644), (&folder, 0o1777, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
            assert!(!is_found(), "{mode:o}");
            fs::set_permissions(path, fs::Permissions::from_mode(before)).expect("mode");
        }
        fs::rename(&path, cache.join("other")).expect("renamed");
        symlink(cache.join("other"), &path).expect("link");
        assert!(!is_found());
    }
}
