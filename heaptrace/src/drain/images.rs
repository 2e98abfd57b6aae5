//! Where each process image has its code, so that an address becomes a module and an offset while the process
//! is there to ask.

use crate::{model::ModuleId, process::maps::Mapping};
use std::{path::Path, sync::Arc};

/// What the kernel calls the code that it maps into every process.
pub const VDSO: &str = "[vdso]";

/// One executable mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeMapping {
    pub start: u64,
    /// First address past it.
    pub end: u64,
    /// File offset of `start`.
    pub offset: u64,
    /// `None` for memory with no file behind it (JIT code).
    pub module: Option<ModuleId>,
}

/// The code of one process image. Mappings that went away are kept: a stack may have been taken in them.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// By address; shared with the image that it was forked from until one of them changes.
    current: Arc<Vec<CodeMapping>>,
    retired: Arc<Vec<CodeMapping>>,
}

/// What an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    InModule(ModuleId, u64),
    Anonymous,
    Unmapped,
}

impl Image {
    /// Takes the mappings as they are now.
    pub fn update(&mut self, mappings: Vec<CodeMapping>) {
        if *self.current == mappings {
            return;
        }
        let gone = self.current.iter().filter(|old| !mappings.contains(old));
        let gone: Vec<CodeMapping> = gone.cloned().collect();
        self.retire(gone);
        self.current = Arc::new(mappings);
    }

    /// Keeps mappings that went away; of too many, the last. One that comes again and again is kept once.
    fn retire(&mut self, gone: Vec<CodeMapping>) {
        const MOST: usize = 1 << 10;
        if gone.iter().all(|one| self.retired.last() == Some(one)) {
            return;
        }
        let retired = Arc::make_mut(&mut self.retired);
        let last = gone.len().saturating_sub(MOST);
        for one in gone.into_iter().skip(last) {
            retired.retain(|old| *old != one);
            retired.push(one);
        }
        let excess = retired.len().saturating_sub(MOST);
        retired.drain(..excess);
    }

    /// Takes one more mapping; of others, what it lies over is gone.
    pub fn add(&mut self, mapping: CodeMapping) {
        if self.current.contains(&mapping) {
            return;
        }
        let overlaps = |old: &CodeMapping| old.start < mapping.end && mapping.start < old.end;
        let (gone, mut kept): (Vec<_>, Vec<_>) = self.current.iter().cloned().partition(overlaps);
        for old in &gone {
            let before = CodeMapping { end: mapping.start, ..old.clone() };
            let offset = old.offset.wrapping_add(mapping.end.wrapping_sub(old.start));
            let after = CodeMapping { start: mapping.end, offset, ..old.clone() };
            for rest in [before, after].into_iter().filter(|rest| rest.start < rest.end) {
                kept.insert(kept.partition_point(|other| other.start < rest.start), rest);
            }
        }
        self.retire(gone);
        let at = kept.partition_point(|old| old.start < mapping.start);
        kept.insert(at, mapping);
        self.current = Arc::new(kept);
    }

    /// The file of other code that `mapping` lies over.
    pub fn under(&self, mapping: &CodeMapping) -> Option<ModuleId> {
        let is_under = |old: &CodeMapping| {
            old.module.is_some() && old.start < mapping.end && mapping.start < old.end && old != mapping
        };
        self.current.iter().find(|old| is_under(old))?.module
    }

    /// As mapped now, by address.
    pub fn mappings(&self) -> &[CodeMapping] {
        &self.current
    }

    /// What `address` is in: as mapped now, else as mapped before.
    pub fn locate(&self, address: u64) -> Place {
        let next = self.current.partition_point(|mapping| mapping.start <= address);
        let current = next.checked_sub(1).map(|index| &self.current[index]);
        let covers = |mapping: &&CodeMapping| (mapping.start..mapping.end).contains(&address);
        match current.filter(covers).or_else(|| self.retired.iter().rev().find(covers)) {
            Some(CodeMapping { start, offset, module: Some(module), .. }) => {
                // Offsets are the kernel's to wrap: of devices they are any.
                Place::InModule(*module, (address - start).wrapping_add(*offset))
            }
            Some(_) => Place::Anonymous,
            None => Place::Unmapped,
        }
    }
}

/// Whether a mapping is the program's code: executable, and not the return trampoline of uprobes.
pub fn is_code(mapping: &Mapping) -> bool {
    mapping.permissions.execute && mapping.path.as_deref() != Some(Path::new("[uprobes]"))
}

/// What a mapping's module is called, if it has one: the file, or the vDSO.
pub fn module_path(mapping: &Mapping) -> Option<&Path> {
    mapping.file().or_else(|| mapping.path.as_deref().filter(|path| *path == Path::new(VDSO)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, offset: u64, module: Option<u32>) -> CodeMapping {
        CodeMapping { start, end, offset, module: module.map(ModuleId) }
    }

    #[test]
    fn an_address_is_found_by_its_mapping_with_the_file_offset() {
        let mut image = Image::default();
        image.update(vec![mapping(0x1000, 0x2000, 0x500, Some(0)), mapping(0x4000, 0x5000, 0, None)]);
        assert_eq!(image.locate(0x1010), Place::InModule(ModuleId(0), 0x510));
        assert_eq!(image.locate(0x4fff), Place::Anonymous);
        for outside in [0, 0xfff, 0x2000, 0x5000, u64::MAX] {
            assert_eq!(image.locate(outside), Place::Unmapped, "{outside:#x}");
        }
    }

    #[test]
    fn an_offset_at_the_end_of_all_numbers_is_no_panic() {
        let mut image = Image::default();
        image.add(mapping(0x1000, 0x3000, 0_u64.wrapping_sub(0x1000), Some(0)));
        assert_eq!(image.locate(0x2010), Place::InModule(ModuleId(0), 0x10));
    }

    #[test]
    fn an_unloaded_library_is_still_found_unless_another_took_its_place() {
        let mut image = Image::default();
        image.update(vec![mapping(0x1000, 0x2000, 0, Some(0)), mapping(0x3000, 0x4000, 0, Some(1))]);
        image.update(vec![mapping(0x3000, 0x4000, 0, Some(2))]);
        assert_eq!(image.locate(0x1800), Place::InModule(ModuleId(0), 0x800));
        assert_eq!(image.locate(0x3800), Place::InModule(ModuleId(2), 0x800));
    }

    #[test]
    fn mappings_that_come_and_go_for_ever_are_kept_up_to_a_bound() {
        let mut image = Image::default();
        for turn in 0..10_000 {
            image.update(vec![mapping(
                0x1000 * (turn % 3000 + 1),
                0x1000 * (turn % 3000 + 2),
                0,
                Some(turn as u32),
            )]);
            image.update(Vec::new());
        }
        assert_eq!(image.retired.len(), 1024);
        for _ in 0..3000 {
            image.update(vec![mapping(0x1000, 0x2000, 0, Some(7))]);
            image.update(Vec::new());
        }
        let again = mapping(0x1000, 0x2000, 0, Some(7));
        assert_eq!(image.retired.iter().filter(|old| **old == again).count(), 1);
        assert_eq!(image.locate(0x1800), Place::InModule(ModuleId(7), 0x800));
    }

    #[test]
    fn what_is_mapped_already_lies_over_nothing() {
        let mut image = Image::default();
        let code = mapping(0x1000, 0x3000, 0x500, Some(0));
        image.update(vec![code.clone(), mapping(0x8000, 0x9000, 0, None)]);
        assert_eq!(None, image.under(&code));
        assert_eq!(Some(ModuleId(0)), image.under(&mapping(0x1000, 0x3000, 0x500, Some(1))));
        assert_eq!(Some(ModuleId(0)), image.under(&mapping(0x2000, 0x3000, 0x1500, Some(0))));
        assert_eq!(None, image.under(&mapping(0x3000, 0x4000, 0, Some(1))));
        // Code that is generated is told apart by nothing.
        assert_eq!(None, image.under(&mapping(0x8000, 0x9000, 0, Some(1))));
    }

    #[test]
    fn what_a_mapping_leaves_of_another_stays() {
        let mut image = Image::default();
        image.update(vec![mapping(0x1000, 0x9000, 0x500, Some(0))]);
        image.add(mapping(0x3000, 0x5000, 0, None));
        let mappings = image.mappings();
        assert_eq!(
            mappings,
            [
                mapping(0x1000, 0x3000, 0x500, Some(0)),
                mapping(0x3000, 0x5000, 0, None),
                mapping(0x5000, 0x9000, 0x4500, Some(0))
            ]
        );
        assert_eq!(image.locate(0x4000), Place::Anonymous);
        assert_eq!(image.locate(0x5010), Place::InModule(ModuleId(0), 0x4510));
        // Over an end, and over all of it.
        image.add(mapping(0x8000, 0xa000, 0, Some(1)));
        assert_eq!(
            image.mappings()[2..],
            [mapping(0x5000, 0x8000, 0x4500, Some(0)), mapping(0x8000, 0xa000, 0, Some(1))]
        );
        image.add(mapping(0x1000, 0xa000, 0, Some(2)));
        assert_eq!(image.mappings(), [mapping(0x1000, 0xa000, 0, Some(2))]);
    }

    #[test]
    fn a_mapping_replaces_what_it_lies_over() {
        let mut image = Image::default();
        for (start, end, module) in [(0x3000, 0x4000, 0), (0x1000, 0x2000, 1), (0x3800, 0x5000, 2)] {
            image.add(mapping(start, end, 0, Some(module)));
        }
        let found = [0x1000, 0x3000, 0x3800, 0x4fff].map(|address| match image.locate(address) {
            Place::InModule(module, _) => module.0,
            place => panic!("{place:?}"),
        });
        assert_eq!(found, [1, 0, 2, 2]);
    }
}
