//! Names of a stripped program's functions, from its debug file: where its allocator would else not be found.

use super::cut::Emulation;
use super::symbols::FileSymbols;
use crate::model::BuildId;
use crate::process::elf::build_id_of;
use crate::process::foreign::{self, Links};
use crate::process::object::Object;
use object::ReadCache;
use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The allocation functions of a file that has a debug file here; `None` where that names none either.
pub(super) fn symbols(object: &Object, emulation: Emulation) -> Option<FileSymbols> {
    let id = object.elf.build_id.as_ref()?;
    let debug = candidates(id).into_iter().find_map(|path| of_build(&path, id))?;
    let (file, debug) = (ReadCache::new(&**object.file()), ReadCache::new(&debug));
    let found = FileSymbols::read_with(&file, &object.elf, emulation, Some(&debug)).ok()?;
    found.hidden.is_none().then_some(found)
}

/// Where distributions put debug files, and where debuginfod's client keeps those that it has fetched
/// (debuginfod_find_debuginfo(3)).
fn candidates(id: &BuildId) -> Vec<PathBuf> {
    let hex = id.to_string();
    let Some((first, rest)) = hex.split_at_checked(2) else { return Vec::new() };
    let system = PathBuf::from(format!("/usr/lib/debug/.build-id/{first}/{rest}.debug"));
    let folder = |name: &str, below: &str| {
        env::var_os(name).filter(|value| !value.is_empty()).map(|value| PathBuf::from(value).join(below))
    };
    let caches = [
        folder("DEBUGINFOD_CACHE_PATH", ""),
        folder("XDG_CACHE_HOME", "debuginfod_client"),
        folder("HOME", ".cache/debuginfod_client"),
        folder("HOME", ".debuginfod_client_cache"),
    ];
    let fetched = caches.into_iter().flatten().map(|cache| cache.join(&hex).join("debuginfo"));
    [system].into_iter().chain(fetched).collect()
}

/// The file at `path`, if it says that it is of this build.
fn of_build(path: &Path, id: &BuildId) -> Option<File> {
    let file = foreign::open_by_name(path, Links::Followed).ok()?;
    let is_it = build_id_of(&ReadCache::new(&file)).as_ref() == Some(id);
    is_it.then_some(file)
}
