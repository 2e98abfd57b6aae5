//! Files that the BPF side is told of, so that it puts their tables in force as soon as they are mapped.

use crate::{
    bpf::UnwindMaps,
    process::{
        foreign,
        object::{FileId, FileStamp, Object},
    },
    unwind::FileKey,
};
use heaptrace_common::unwind::{CodeFile, CodeFileKey, TablePlace};
use std::{collections::HashMap, ffi::OsStr, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

/// See the module.
#[derive(Default)]
pub struct KnownFiles {
    /// As it was told of each.
    told: HashMap<FileId, (FileStamp, CodeFile)>,
    /// Of each program, its dynamic linker: an exec maps both, and names the program only.
    linkers: HashMap<FileStamp, CodeFileKey>,
}

impl KnownFiles {
    /// Learns which of `objects`, what one process maps, is the dynamic linker of which.
    pub fn pair<'a>(&mut self, objects: impl Iterator<Item = &'a Arc<Object>> + Clone) {
        for program in objects.clone() {
            let Some(name) = program.elf.interpreter.as_deref().and_then(|path| path.file_name()) else {
                continue;
            };
            let is_linker = |object: &&Arc<Object>| {
                object.elf.soname.as_deref().is_some_and(|soname| OsStr::new(soname) == name)
            };
            if let Some(linker) = objects.clone().find(is_linker) {
                self.linkers.insert(program.stamp, key(linker.id()));
            }
        }
    }

    /// Tells of a file whose table is in place.
    pub fn tell(&mut self, maps: &mut UnwindMaps, object: &Object, table: TablePlace) {
        let mut executable = object.elf.loads.iter().filter(|load| load.executable);
        // One delta for all of the file's code.
        let (Some(code), None) = (executable.next(), executable.next()) else { return };
        let FileStamp { id, size, modified: (seconds, nanoseconds) } = object.stamp;
        let file = CodeFile {
            size,
            modified_s: seconds as u64,
            modified_ns: nanoseconds as u64,
            delta: code.address.wrapping_sub(code.offset),
            code_start: code.address,
            entry: object.elf.entry,
            interpreter: self.linker(object).unwrap_or_default(),
            table,
        };
        if self.told.insert(id, (object.stamp, file)) != Some((object.stamp, file)) {
            maps.know_file(key(id), file);
        }
    }

    /// The dynamic linker of a program: as a process mapped it, else what its name leads to where the program's does.
    fn linker(&mut self, program: &Object) -> Option<CodeFileKey> {
        if let Some(linker) = self.linkers.get(&program.stamp) {
            return Some(*linker);
        }
        let id = |path: &Path| {
            let file = foreign::metadata(path).ok()?;
            Some(FileId { dev: file.dev(), inode: file.ino() })
        };
        let interpreter = program.elf.interpreter.as_deref()?;
        // Another root's program may have another linker of that name.
        let linker =
            id(&program.path).filter(|found| *found == program.id()).and_then(|_| id(interpreter))?;
        self.linkers.insert(program.stamp, key(linker));
        Some(key(linker))
    }

    /// The table of `file` may go.
    pub fn forget(&mut self, maps: &mut UnwindMaps, file: &FileKey) {
        let FileKey::File(stamp) = file else { return };
        // The file may have been told of again, in another state.
        if self.told.get(&stamp.id).is_some_and(|(told, _)| told == stamp) {
            self.told.remove(&stamp.id);
            maps.forget_file(key(stamp.id));
        }
    }
}

fn key(id: FileId) -> CodeFileKey {
    CodeFileKey::new(libc::major(id.dev), libc::minor(id.dev), id.inode)
}
