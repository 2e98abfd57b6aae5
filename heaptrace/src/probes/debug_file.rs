//! Names of a stripped program's functions, from what it keeps of them compressed, or from its debug file: where its allocator
//! would else not be found.

use super::cut::Emulation;
use super::symbols::FileSymbols;
use crate::model::BuildId;
use crate::process::elf::build_id_of;
use crate::process::fetched::{self, Cache};
use crate::process::foreign::{self, Links};
use crate::process::mini_debug;
use crate::process::object::Object;
use crate::process::patience::Beating;
use object::ReadCache;
use std::env;
use std::fs::File;
use std::path::PathBuf;

/// The allocation functions of a file that has names in itself, compressed, or a debug file here; `None` where these name none
/// either.
pub(super) fn symbols(object: &Object, emulation: Emulation) -> Option<FileSymbols> {
    let file = object.reader();
    let is_named = |found: &FileSymbols| found.hidden.is_none();
    if let Some(own) = mini_debug::unpacked(&file) {
        let found = FileSymbols::read_with(&file, &object.elf, emulation, Some(own.as_slice())).ok();
        if let Some(found) = found.filter(is_named) {
            return Some(found);
        }
    }
    let debug = of_build(object.elf.build_id.as_ref()?)?;
    let debug = ReadCache::new(Beating(&debug));
    FileSymbols::read_with(&file, &object.elf, emulation, Some(&debug)).ok().filter(is_named)
}

/// Why names that debuginfod's client has fetched of a build are not used, if it has any and they are not.
pub(super) fn refused(id: &BuildId) -> Option<String> {
    refused_in(&fetched::client_cache(&|name| env::var_os(name))?, id)
}

fn refused_in(cache: &Cache, id: &BuildId) -> Option<String> {
    match cache {
        Cache::Refused { folder, why }
            if foreign::is_there(&folder.join(id.to_string()).join("debuginfo")) =>
        {
            Some(format!("{} is not trusted, as {why}", folder.display()))
        }
        _ => None,
    }
}

/// The debug file of a build: where root puts it, or where debuginfod's client keeps those that it has fetched. From it follows
/// where probes go, so it is nobody's but root's and ours.
fn of_build(id: &BuildId) -> Option<File> {
    let hex = id.to_string();
    let (first, rest) = hex.split_at_checked(2)?;
    let system = PathBuf::from(format!("/usr/lib/debug/.build-id/{first}/{rest}.debug"));
    let installed = foreign::open_by_name(&system, Links::Followed).ok();
    let fetched = || match fetched::client_cache(&|name| env::var_os(name))? {
        Cache::Ours(folder) => fetched::debug_file(&folder, id),
        Cache::Refused { .. } => None,
    };
    let is_it = |file: &File| build_id_of(&ReadCache::new(Beating(file))).as_ref() == Some(id);
    installed.filter(is_it).or_else(|| fetched().filter(is_it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_fetched_and_is_not_used_is_told() {
        let cache = tempfile::TempDir::new().expect("folder");
        let (there, absent) = (BuildId(vec![0xab, 1]), BuildId(vec![0xab, 2]));
        fs::create_dir(cache.path().join("ab01")).expect("folder");
        fs::write(cache.path().join("ab01/debuginfo"), "").expect("file");
        let folder = cache.path().to_owned();
        let refused = Cache::Refused { folder: folder.clone(), why: "others may write to it".into() };
        let told = refused_in(&refused, &there).expect("told");
        assert_eq!(told, format!("{} is not trusted, as others may write to it", folder.display()));
        assert_eq!((refused_in(&refused, &absent), refused_in(&Cache::Ours(folder), &there)), (None, None));
    }
}
