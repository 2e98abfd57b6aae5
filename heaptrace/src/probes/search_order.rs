//! The order in which the dynamic linker searches a process's files for a symbol.

use crate::process::elf::ElfFacts;
use std::path::Path;

/// The order in which the dynamic linker searches `files` for a symbol: the executable, what was preloaded, then
/// the needed libraries breadth first, then what was loaded later, in the given order. `preloaded` holds file
/// names or paths, as LD_PRELOAD does. Returns indexes into `files`.
pub fn resolution_order(files: &[(&Path, &ElfFacts)], executable: usize, preloaded: &[&Path]) -> Vec<usize> {
    let preloaded = preloaded.iter().filter_map(|name| by_name(files, name));
    let mut order = breadth_first(files, std::iter::once(executable).chain(preloaded));
    let rest: Vec<usize> = (0..files.len()).filter(|index| !order.contains(index)).collect();
    order.extend(rest);
    order
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
    breadth_first(files, std::iter::once(executable))
}

fn breadth_first(files: &[(&Path, &ElfFacts)], first: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut order = Vec::with_capacity(files.len());
    let enqueue = |order: &mut Vec<usize>, index: usize| {
        if index < files.len() && !order.contains(&index) {
            order.push(index);
        }
    };
    first.for_each(|index| enqueue(&mut order, index));
    let mut next = 0;
    while let Some(&index) = order.get(next) {
        next += 1;
        for name in &files[index].1.needed {
            by_name(files, Path::new(name)).into_iter().for_each(|index| enqueue(&mut order, index));
        }
    }
    order
}

fn by_name(files: &[(&Path, &ElfFacts)], name: &Path) -> Option<usize> {
    files.iter().position(|(path, elf)| {
        let file_name = path.file_name().map(Path::new);
        let soname = elf.soname.as_deref().map(Path::new);
        *path == name || soname == Some(name) || file_name == name.file_name().map(Path::new)
    })
}

#[cfg(test)]
#[path = "search_order_tests.rs"]
mod tests;
