//! Functions that have another file's do all that they do: libbsd's `reallocf` calls the C library's `realloc`. Whose they are
//! named like does not matter, nor do they make their file an allocator. Known by their code alone: it calls one of the other's
//! allocation functions, has no memory of its own, and goes nowhere that is not known: what is not known may give blocks, as a
//! pool does in another library, with the C library's for what that has no room for.

use super::forward::Target;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, Register};
use std::ops::Range;

/// Functions of the file on the way.
const MOST: usize = 8;

/// What such functions call beside allocation functions, and what gives no blocks.
const HARMLESS: [&str; 18] = [
    "_Unwind_Resume",
    "_ZSt17__throw_bad_allocv",
    "__errno_location",
    "__explicit_bzero_chk",
    "__memcpy_chk",
    "__memmove_chk",
    "__memset_chk",
    "__popcountdi2",
    "__stack_chk_fail",
    "abort",
    "bzero",
    "explicit_bzero",
    "getpagesize",
    "memcpy",
    "memmove",
    "memset",
    "strlen",
    "strnlen",
];

/// What is known of a file's code.
pub(super) trait Code {
    /// The function at an address, and its bytes; `None` if the file holds none.
    fn function(&self, address: u64) -> Option<(Range<u64>, &[u8])>;

    /// The name by which the dynamic linker fills in what is called, if another file's function is, and this file has none
    /// of that name.
    fn imported(&self, target: Target) -> Option<String>;
}

/// The allocation function of another file, by which the one at `entry` does its work. `allocates` says of the name of a
/// function that takes or gives blocks whether it gives them, and of others nothing.
pub(super) fn works_by(
    code: &impl Code,
    entry: u64,
    allocates: impl Fn(&str) -> Option<bool>,
) -> Option<String> {
    let mut found = None;
    let mut functions = vec![entry];
    let mut next = 0;
    while let Some(function) = functions.get(next) {
        next += 1;
        let (range, bytes) = code.function(*function)?;
        for instruction in Decoder::with_ip(64, bytes, range.start, DecoderOptions::NONE) {
            let target = match place(&instruction, &range)? {
                Place::Within => continue,
                Place::Target(target) => target,
            };
            match (code.imported(target), target) {
                (Some(name), _) => match allocates(&name) {
                    Some(true) => found = found.or(Some(name)),
                    Some(false) => {}
                    None if HARMLESS.contains(&name.as_str()) => {}
                    None => return None,
                },
                (None, Target::Code(address)) if functions.len() < MOST => {
                    if !functions.contains(&address) {
                        functions.push(address);
                    }
                }
                _ => return None,
            }
        }
    }
    found
}

enum Place {
    /// Control stays, or returns.
    Within,
    Target(Target),
}

/// Where control goes; `None` if that is not known, or the instruction may reach memory of the file's own.
fn place(instruction: &Instruction, function: &Range<u64>) -> Option<Place> {
    let memory = instruction.is_ip_rel_memory_operand().then(|| instruction.ip_rel_memory_address());
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::Call => {
            let to = instruction.near_branch_target();
            Some(if function.contains(&to) { Place::Within } else { Place::Target(Target::Code(to)) })
        }
        FlowControl::IndirectBranch | FlowControl::IndirectCall => {
            memory.map(|slot| Place::Target(Target::Slot(slot)))
        }
        FlowControl::Next | FlowControl::Return if memory.is_none() && !is_at_fixed_address(instruction) => {
            (instruction.mnemonic() != Mnemonic::Syscall).then_some(Place::Within)
        }
        // Falls into a trap, as behind a call that does not return.
        FlowControl::Exception if instruction.mnemonic() == Mnemonic::Ud2 => Some(Place::Within),
        _ => None,
    }
}

/// Whether an instruction reaches memory at an address that it names itself. (By fs, it is the thread's.)
fn is_at_fixed_address(instruction: &Instruction) -> bool {
    let names = instruction.op_kinds().any(|kind| kind == iced_x86::OpKind::Memory)
        && instruction.memory_base() == Register::None
        && instruction.memory_index() == Register::None;
    names && instruction.segment_prefix() != Register::FS && instruction.mnemonic() != Mnemonic::Nop
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENTRY: u64 = 0x1000;

    /// A file with one function, and stubs behind it: realloc's at 0x2000, free's at 0x2010, memset's at 0x2020, and that of
    /// another library's pool at 0x2030.
    struct One<'a>(&'a [u8]);

    impl Code for One<'_> {
        fn function(&self, address: u64) -> Option<(Range<u64>, &[u8])> {
            (address == ENTRY).then(|| (ENTRY..ENTRY + self.0.len() as u64, self.0))
        }

        fn imported(&self, target: Target) -> Option<String> {
            match target {
                Target::Code(0x2000) | Target::Slot(0x3000) => Some("realloc".to_owned()),
                Target::Code(0x2010) => Some("free".to_owned()),
                Target::Code(0x2020) => Some("memset".to_owned()),
                Target::Code(0x2030) => Some("pool_get".to_owned()),
                _ => None,
            }
        }
    }

    fn of(code: &[u8]) -> Option<String> {
        works_by(&One(code), ENTRY, |name| match name {
            "realloc" => Some(true),
            "free" => Some(false),
            _ => None,
        })
    }

    #[test]
    fn a_function_that_calls_anothers_and_has_nothing_of_its_own_works_by_it() {
        // push rbx; mov rbx, rdi; call realloc; test rax, rax; je +2; pop rbx; ret; mov rdi, rbx; pop rbx; jmp free
        let reallocf = [
            0x53, 0x48, 0x89, 0xfb, 0xe8, 0xf7, 0x0f, 0, 0, 0x48, 0x85, 0xc0, 0x74, 0x02, 0x5b, 0xc3, 0x48,
            0x89, 0xdf, 0x5b, 0xe9, 0xf7, 0x0f, 0, 0,
        ];
        assert_eq!(of(&reallocf).as_deref(), Some("realloc"));
        // jmp [rip+0x1ffa]
        assert_eq!(of(&[0xff, 0x25, 0xfa, 0x1f, 0, 0]).as_deref(), Some("realloc"));
    }

    #[test]
    fn what_has_memory_or_ways_of_its_own_is_an_allocator() {
        let call = [0xe8, 0xfb, 0x0f, 0, 0];
        let with = |before: &[u8]| {
            let mut code = before.to_vec();
            let distance = 0x1000 - (before.len() as i32 + 5);
            code.push(0xe8);
            code.extend(distance.to_le_bytes());
            code.push(0xc3);
            of(&code)
        };
        assert_eq!(with(&[]).as_deref(), Some("realloc"));
        // mov rax, fs:[0x28]
        assert!(with(&[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0]).is_some());
        // mov rax, [rip+8]; lea rax, [rip+8]; mov rax, [0x4000]; syscall; call rax; call [rip+8]; call +0x100
        for own in [
            &[0x48, 0x8b, 0x05, 8, 0, 0, 0][..],
            &[0x48, 0x8d, 0x05, 8, 0, 0, 0],
            &[0x48, 0x8b, 0x04, 0x25, 0, 0x40, 0, 0],
            &[0x0f, 0x05],
            &[0xff, 0xd0],
            &[0xff, 0x15, 8, 0, 0, 0],
            &[0xe8, 0, 1, 0, 0],
        ] {
            assert_eq!(with(own), None, "{own:x?}");
        }
        // Only free is called: call free; ret
        assert_eq!(of(&[0xe8, 0x0b, 0x10, 0, 0, 0xc3]), None);
        assert_eq!(of(&call).as_deref(), Some("realloc"));
    }

    #[test]
    fn what_calls_another_files_function_that_is_not_known_is_an_allocator() {
        // call STUB; jmp realloc
        let with = |stub: u8| of(&[0xe8, stub - 5, 0x10, 0, 0, 0xe9, 0xf6, 0x0f, 0, 0]);
        assert_eq!(with(0x20).as_deref(), Some("realloc"));
        assert_eq!(with(0x30), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_gone_through_without_panic(code: Vec<u8>) {
            let _ = of(&code);
        }
    }
}
