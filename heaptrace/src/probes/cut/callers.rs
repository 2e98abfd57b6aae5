//! Who calls a file's allocation functions within the file itself: its allocator, or code that was linked with it and bound to
//! it, as a plugin's with an allocator inside (-Bsymbolic, protected symbols).

use super::image::Image;
use super::references::Source;
use iced_x86::{Decoder, DecoderOptions, OpKind};
use std::collections::HashSet;

/// An allocator's own functions: more than any has.
const MOST: usize = 4096;

/// Whether code calls one of `functions` directly that none of `allocator`, all the entries of the file's allocation functions,
/// calls, or anything that these call. `false` where that cannot be told.
pub fn are_called_by_others(image: &Image<'_>, functions: &[u64], allocator: &[u64]) -> bool {
    let Some(references) = image.references() else { return false };
    let calling: Vec<u64> = functions
        .iter()
        .flat_map(|entry| references.into(*entry..entry.saturating_add(1)))
        .filter_map(|(_, source)| match source {
            Source::Branch(from) => Some(image.function_at(*from).start),
            Source::Pointer => None,
        })
        .collect();
    if calling.is_empty() {
        return false;
    }
    let mut own: HashSet<u64> = allocator.iter().map(|entry| image.function_at(*entry).start).collect();
    let mut waiting: Vec<u64> = own.iter().copied().collect();
    while let Some(entry) = waiting.pop() {
        for target in branches(image, entry) {
            let target = image.function_at(image.callee(target)).start;
            if own.insert(target) {
                if own.len() > MOST {
                    return false;
                }
                waiting.push(target);
            }
        }
    }
    calling.iter().any(|caller| !own.contains(caller))
}

/// Where the function at `entry` calls and jumps to.
fn branches(image: &Image<'_>, entry: u64) -> Vec<u64> {
    let range = image.function_at(entry);
    let bytes = image.memory.bytes(range.start).unwrap_or_default();
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(bytes.len());
    let decoder = Decoder::with_ip(64, &bytes[..length], range.start, DecoderOptions::NONE);
    let near = decoder.into_iter().filter(|instruction| instruction.op0_kind() == OpKind::NearBranch64);
    let targets = near.map(|instruction| instruction.near_branch_target());
    targets.filter(|target| !range.contains(target)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::conditions_tests::{LEAVE, RET};
    use super::*;
    use crate::fixtures::assembler::program;

    #[test]
    fn a_plugin_that_is_bound_to_its_allocator_is_told_from_the_allocator() {
        let of = |caller: &'static str| {
            let program = program(|it| {
                it.raw(&[0x53]).call("helper").raw(&LEAVE);
                it.function("helper").raw(&[0x53]).call("entry").raw(&LEAVE);
                it.function("work").raw(&[0x53]).call(caller).raw(&LEAVE);
                it.function("other").raw(&RET);
            });
            let entry = program.at("entry");
            are_called_by_others(&program.image(), &[entry], &[entry])
        };
        // The helper is the allocator's, and calls it itself.
        assert!(!of("other"));
        assert!(of("entry"));
        assert!(!of("helper"), "it asks the allocator, by a way of its own");
    }
}
