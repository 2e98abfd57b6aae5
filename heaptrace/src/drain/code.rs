//! A process image's code, as its unwind tables are found by.

use super::{
    ProfileBuilder,
    images::{CodeMapping, VDSO},
};
use crate::{process::object::Object, unwind::FileKey};
use std::sync::Arc;

/// One executable mapping, and the file whose unwind table is for it.
pub struct Code {
    pub start: u64,
    /// First address past it.
    pub end: u64,
    /// Address minus the file's virtual address.
    pub bias: u64,
    pub file: Option<(FileKey, Option<Arc<Object>>)>,
}

impl Code {
    /// The file, opened.
    pub fn object(&self) -> Option<&Arc<Object>> {
        self.file.as_ref().and_then(|(_, object)| object.as_ref())
    }
}

impl ProfileBuilder {
    /// Paths of files in the code of a record's image that could not be opened.
    pub fn unopened_code(&self, record: u32) -> impl Iterator<Item = &str> {
        let mappings = self.images.get(&record).map_or(&[][..], |image| image.mappings());
        mappings.iter().filter_map(|mapping| mapping.module).filter_map(|module| {
            let known = self.sources.get(module.index()).is_some_and(Option::is_some);
            let path = &self.modules.table.items[module.index()].path;
            (!known && path != VDSO).then_some(path.as_str())
        })
    }

    /// Whether code is of a file that others can see, too.
    pub(super) fn is_of_file(&self, code: &CodeMapping) -> bool {
        code.module.is_some_and(|module| self.modules.table.items[module.index()].path != VDSO)
    }

    /// The code of a record's image as it is mapped now, by address, for its unwind tables.
    pub fn code(&self, record: u32) -> Vec<Code> {
        let Some(image) = self.images.get(&record) else { return Vec::new() };
        let code = |mapping: &CodeMapping| {
            let CodeMapping { start, end, offset, module } = *mapping;
            let bare = Code { start, end, bias: 0, file: None };
            let Some(module) = module else { return bare };
            match self.sources.get(module.index()).and_then(Option::as_ref) {
                Some(object) => match object.elf.address_of(offset) {
                    Some(address) => Code {
                        bias: start.wrapping_sub(address),
                        file: Some((FileKey::File(object.stamp), Some(Arc::clone(object)))),
                        ..bare
                    },
                    None => bare,
                },
                // The kernel's own: its image begins at address 0.
                None if self.modules.table.items[module.index()].path == VDSO => {
                    Code { bias: start, file: Some((FileKey::Vdso, None)), ..bare }
                }
                None => bare,
            }
        };
        image.mappings().iter().map(code).collect()
    }
}
