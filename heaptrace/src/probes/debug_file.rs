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
