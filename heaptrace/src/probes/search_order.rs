//! The order in which the dynamic linker searches a process's files for a symbol.

use crate::process::elf::ElfFacts;
use std::{collections::HashMap, ffi::OsStr, path::Path};

/// The order in which the dynamic linker searches `files` for a symbol: the executable, what was preloaded, then
/// the needed libraries breadth first, then what was loaded later, in the given order. `preloaded` holds file
/// names or paths, as LD_PRELOAD does. Returns indexes into `files`.
pub fn resolution_order(files: &[(&Path, &ElfFacts)], executable: usize, preloaded: &[&Path]) -> Vec<usize> {
    let mut order = Order::of(files);
    order.add(executable);
    preloaded.iter().for_each(|name| order.add_named(name));
    order.add_needed(files);
    (0..files.len()).for_each(|index| order.add(index));
    order.found
}

/// Which of `files`, the kernel's executable first, is the program. It is another one where the dynamic linker was
/// started with the program as its argument (ld.so(8)).
pub fn program(files: &[(&Path, &ElfFacts)]) -> usize {
    let by_hand = files.first().is_some_and(|(_, elf)| is_loader(elf) && elf.interpreter.is_none());
    // libc names an interpreter, too, but itself as well.
    let is_program = |(_, elf): &(&Path, &ElfFacts)| elf.interpreter.is_some() && elf.soname.is_none();
    files.iter().position(is_program).filter(|_| by_hand).unwrap_or(0)
}

/// Whether a file is the dynamic linker, by the name that it gives itself.
pub fn is_loader(elf: &ElfFacts) -> bool {
    elf.soname.as_deref().is_some_and(|soname| soname.starts_with("ld-"))
}

/// `executable` and what it needs, breadth first.
pub fn needed_from(files: &[(&Path, &ElfFacts)], executable: usize) -> Vec<usize> {
    let mut order = Order::of(files);
    order.add(executable);
    order.add_needed(files);
    order.found
}

/// Files in the order in which they were found, each once. Names are looked up at once: a process may have as many files as
/// it likes, and preload as many names.
struct Order<'f> {
    found: Vec<usize>,
    is_found: Vec<bool>,
    /// The first file with this path or soname.
    by_name: HashMap<&'f Path, usize>,
    /// The first file with a path that ends in this.
    by_file_name: HashMap<&'f OsStr, usize>,
}

impl<'f> Order<'f> {
    fn of(files: &[(&'f Path, &'f ElfFacts)]) -> Self {
        let (mut by_name, mut by_file_name) = (HashMap::new(), HashMap::new());
        for (index, (path, elf)) in files.iter().enumerate() {
            by_name.entry(*path).or_insert(index);
            if let Some(soname) = &elf.soname {
                by_name.entry(Path::new(soname)).or_insert(index);
            }
            if let Some(name) = path.file_name() {
                by_file_name.entry(name).or_insert(index);
            }
        }
        Self { found: Vec::new(), is_found: vec![false; files.len()], by_name, by_file_name }
    }

    fn add(&mut self, index: usize) {
        if let Some(is_found) = self.is_found.get_mut(index)
            && !*is_found
        {
            *is_found = true;
            self.found.push(index);
        }
    }

    fn add_named(&mut self, name: &Path) {
        let by_file_name = name.file_name().and_then(|name| self.by_file_name.get(name));
        if let Some(index) = self.by_name.get(name).into_iter().chain(by_file_name).min() {
            self.add(*index);
        }
    }

    /// What those need that were found, and what these need.
    fn add_needed(&mut self, files: &[(&Path, &ElfFacts)]) {
        let mut next = 0;
        while let Some(&index) = self.found.get(next) {
            next += 1;
            files[index].1.needed.iter().for_each(|name| self.add_named(Path::new(name)));
        }
    }
}

#[cfg(test)]
#[path = "search_order_tests.rs"]
mod tests;
