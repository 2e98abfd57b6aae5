//! The files that a plan chooses from.

use super::own_samples::OwnSamples;
use super::symbols::FileSymbols;
use crate::process::elf::ElfFacts;
use crate::process::object::Object;
use std::path::Path;
use std::sync::Arc;

/// A file of a process, looked into.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub object: Arc<Object>,
    pub symbols: Arc<FileSymbols>,
    pub own: Arc<OwnSamples>,
    /// The process has it more than once: its linker has further namespaces (dlmopen(3)), where other files are found first.
    pub repeated: bool,
}

/// What the choice rests on: the same as a [`Candidate`], without the opened file.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    pub path: &'a Path,
    pub elf: &'a ElfFacts,
    pub symbols: &'a FileSymbols,
    pub repeated: bool,
}
