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

/// Where what was fetched is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Nobody else can have put anything here.
    Ours(PathBuf),
    /// Somebody could have, for this reason: what is in it is not used.
    Refused { folder: PathBuf, why: String },
}

/// The folder, as debuginfod_find_debuginfo(3) has it, if it is there; `variable` is of the environment.
pub fn client_cache(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Cache> {
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
    Some(match fault(&folder, rustix::process::geteuid().as_raw()) {
        None => Cache::Ours(folder),
        Some(why) => Cache::Refused { folder, why },
    })
}

/// The debug file of a build in that folder: no link leads to it, nor may others change it.
pub fn debug_file(cache: &Path, id: &BuildId) -> Option<File> {
    let own = rustix::process::geteuid().as_raw();
    let folder = cache.join(id.to_string());
    let file = foreign::open_by_name(&folder.join("debuginfo"), Links::Refused).ok()?;
    let of = file.metadata().ok()?;
    let is_ours = of.mode() & 0o022 == 0 && (of.uid() == 0 || of.uid() == own);
    (is_ours && fault(&folder, own).is_none()).then_some(file)
}

/// Why others than root and `own` can have put something into this folder, which no link leads to: it, or one on the way down
/// to it, is theirs, or one that they may change.
fn fault(folder: &Path, own: u32) -> Option<String> {
    if !folder.is_absolute() {
        return Some("it is a relative path".to_owned());
    }
    folder.ancestors().find_map(|at| {
        let name = at.display();
        let Ok(of) = foreign::metadata(at) else { return Some(format!("{name} cannot be looked at")) };
        // In one like /tmp nobody can rename what is another's; and what is in it may be anybody's.
        let is_shared = of.mode() & 0o022 != 0 && (of.mode() & libc::S_ISVTX == 0 || at == folder);
        if !of.is_dir() {
            Some(format!("{name} is no folder"))
        } else if of.uid() != 0 && of.uid() != own {
            Some(format!("{name} belongs to user {}, and heaptrace runs as user {own}", of.uid()))
        } else {
            is_shared.then(|| format!("others may write to {name} (mode {:o})", of.mode() & 0o7777))
        }
    })
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
        let cache_of = |variables: &[(&str, &Path)]| {
            client_cache(&|name| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, path)| path.as_os_str().to_owned())
            })
        };
        let found = |variables: &[(&str, &Path)]| match cache_of(variables) {
            Some(Cache::Ours(folder)) => Some(folder),
            _ => None,
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
            let Some(Cache::Refused { folder: refused, why }) = cache_of(&[("HOME", &home)]) else {
                panic!("{mode:o}")
            };
            assert_eq!(refused, cache);
            assert_eq!(why, format!("others may write to {} (mode {mode:o})", folder.display()));
            fs::set_permissions(folder, before).expect("mode");
        }
        let own = rustix::process::geteuid().as_raw();
        let others = fault(&cache, own + 1);
        assert!(own == 0 || others.is_some_and(|why| why.contains("belongs to user")), "{own}");
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
