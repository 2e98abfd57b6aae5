//! Whether a call ever comes back, proven from names and from the callee's own code. The first argument's value is
//! followed as far as it is a constant: glibc's `__libc_message` returns or not by that.

use super::image::Image;
use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

/// How deep calls are followed.
const MAX_DEPTH: u32 = 6;

/// The most instructions of one function that are looked at, each as often as constants differ.
const MAX_STEPS: usize = 6000;

/// The most in all, for one function that is analysed.
const MAX_TOTAL: usize = 200_000;

/// Functions that never return, by name.
const NAMES: [&str; 34] = [
    "abort",
    "_exit",
    "_Exit",
    "exit",
    "quick_exit",
    "pthread_exit",
    "longjmp",
    "siglongjmp",
    "__longjmp_chk",
    "__assert_fail",
    "__assert_perror_fail",
    "__assert",
    "__stack_chk_fail",
    "__stack_chk_fail_local",
    "__libc_fatal",
    "__fortify_fail",
    "__chk_fail",
    "_Unwind_Resume",
    "__cxa_throw",
    "__cxa_rethrow",
    "__cxa_bad_cast",
    "__cxa_bad_typeid",
    "__cxa_throw_bad_array_new_length",
    "__cxa_throw_bad_array_length",
    "__cxa_call_unexpected",
    "__cxa_call_terminate",
    "__cxa_pure_virtual",
    "__cxa_deleted_virtual",
    "__clang_call_terminate",
    "_ZSt9terminatev",
    "_ZSt10unexpectedv",
    "__libc_assert_fail",
    "__gxx_throw_bad_alloc",
    "_dl_signal_error",
];

/// Of those, the ones that leave by an exception.
const THROWING: [&str; 5] = [
    "_Unwind_Resume",
    "__cxa_throw",
    "__cxa_rethrow",
    "__cxa_throw_bad_array_new_length",
    "__cxa_throw_bad_array_length",
];

/// Whether a function of this name never returns.
pub fn is_named(name: &str) -> bool {
    NAMES.contains(&name) || is_thrower(name)
}

/// Whether it leaves by an exception: `std::__throw_bad_alloc()` and its like.
fn is_thrower(name: &str) -> bool {
    let rest = name.strip_prefix("_ZSt").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    THROWING.contains(&name) || rest.is_some_and(|rest| rest.starts_with("__throw_"))
}

type Constants = [Option<u64>; 16];

const NONE: Constants = [None; 16];
const RDI: usize = 7;

/// What survives a call.
const CALLEE_SAVED: [usize; 6] = [3, 5, 12, 13, 14, 15];

/// What has been proven so far, and from what code.
pub struct NoReturn<'a, 'data> {
    image: &'a Image<'data>,
    known: HashMap<(u64, Option<u64>), bool>,
    steps: usize,
    info: InstructionInfoFactory,
    /// The instructions looked at of what never returns.
    pub used: BTreeSet<(u64, u64)>,
}

impl<'a, 'data> NoReturn<'a, 'data> {
    pub fn new(image: &'a Image<'data>) -> Self {
        let info = InstructionInfoFactory::new();
        Self { image, known: HashMap::new(), steps: 0, info, used: BTreeSet::new() }
    }

    /// Whether the call `instruction`, with `rdi` if that is known, never returns.
    pub fn call(&mut self, instruction: &Instruction, rdi: Option<u64>, home: Option<&Range<u64>>) -> bool {
        self.call_at(instruction, rdi, home, 0)
    }

    fn call_at(
        &mut self,
        instruction: &Instruction,
        rdi: Option<u64>,
        home: Option<&Range<u64>>,
        depth: u32,
    ) -> bool {
        // The compiler knew: nothing follows. Without unwind information a function's end is only guessed.
        let ends = home.is_some_and(|home| instruction.next_ip() >= home.end);
        if ends && self.image.frames.has_rows() {
            return true;
        }
        match instruction.flow_control() {
            FlowControl::Call if instruction.op0_kind() == OpKind::NearBranch64 => {
                self.function(instruction.near_branch_target(), rdi, depth)
            }
            FlowControl::IndirectCall if instruction.is_ip_rel_memory_operand() => {
                self.image.slot_name(instruction.ip_rel_memory_address()).is_some_and(is_named)
            }
            _ => false,
        }
    }

    fn function(&mut self, address: u64, rdi: Option<u64>, depth: u32) -> bool {
        if let Some(known) = self.known.get(&(address, rdi)) {
            return *known;
        }
        if let Some(name) = self.image.stub_name(address) {
            return is_named(name);
        }
        if self.image.name(address).is_some_and(is_named) {
            return true;
        }
        if depth > MAX_DEPTH {
            return false;
        }
        // What calls itself may return, until it is known.
        self.known.insert((address, rdi), false);
        let mut seen = HashSet::new();
        let never = self.never_returns(address, rdi, depth, &mut seen).unwrap_or(false);
        if never {
            self.used.extend(seen.iter().map(|(address, length, _)| (*address, *length)));
        }
        self.known.insert((address, rdi), never);
        never
    }

    /// `None` where it may return or cannot be followed.
    fn never_returns(
        &mut self,
        address: u64,
        rdi: Option<u64>,
        depth: u32,
        seen: &mut HashSet<(u64, u64, Constants)>,
    ) -> Option<bool> {
        let home = self.image.function(address).map(|span| span.start..span.end);
        let mut first = NONE;
        first[RDI] = rdi;
        let mut waiting = vec![(address, first, None)];
        while let Some((at, constants, tested)) = waiting.pop() {
            let instruction = self.image.memory.instruction(at)?;
            if !seen.insert((at, instruction.len() as u64, constants)) {
                continue;
            }
            self.steps += 1;
            if seen.len() > MAX_STEPS || self.steps > MAX_TOTAL {
                return None;
            }
            let next = instruction.next_ip();
            match instruction.flow_control() {
                FlowControl::Exception => {}
                FlowControl::Next if instruction.mnemonic() == Mnemonic::Hlt => {}
                FlowControl::UnconditionalBranch => {
                    waiting.push((instruction.near_branch_target(), constants, None));
                }
                FlowControl::ConditionalBranch => {
                    let target = instruction.near_branch_target();
                    let taken = tested.and_then(|value: u64| match instruction.mnemonic() {
                        Mnemonic::Je => Some(value == 0),
                        Mnemonic::Jne => Some(value != 0),
                        _ => None,
                    });
                    if taken != Some(true) {
                        waiting.push((next, constants, None));
                    }
                    if taken != Some(false) {
                        waiting.push((target, constants, None));
                    }
                }
                FlowControl::Call | FlowControl::IndirectCall => {
                    if self.call_at(&instruction, constants[RDI], home.as_ref(), depth + 1) {
                        continue;
                    }
                    let mut kept = NONE;
                    for register in CALLEE_SAVED {
                        kept[register] = constants[register];
                    }
                    waiting.push((next, kept, None));
                }
                FlowControl::Next => {
                    let mut after = constants;
                    let tested = self.step(&instruction, &mut after);
                    waiting.push((next, after, tested));
                }
                _ => return None,
            }
        }
        Some(true)
    }

    /// What an instruction does to constants; the value that it compares with 0.
    fn step(&mut self, instruction: &Instruction, constants: &mut Constants) -> Option<u64> {
        let register = |operand| {
            (instruction.op_kind(operand) == OpKind::Register)
                .then(|| general(instruction.op_register(operand)))
                .flatten()
        };
        if matches!(instruction.code(), Code::Test_rm64_r64 | Code::Test_rm32_r32)
            && instruction.op0_register() == instruction.op1_register()
        {
            return constants[register(0)?];
        }
        let value = match (instruction.code(), register(1)) {
            (Code::Mov_r32_imm32, _) => Some(u64::from(instruction.immediate32())),
            (Code::Mov_rm64_imm32 | Code::Mov_r64_imm64, _) => Some(instruction.immediate(1)),
            (Code::Mov_r64_rm64 | Code::Mov_rm64_r64, Some(from)) => constants[from],
            (Code::Mov_r32_rm32 | Code::Mov_rm32_r32, Some(from)) => {
                constants[from].map(|value| value & 0xffff_ffff)
            }
            (Code::Xor_r32_rm32 | Code::Xor_rm32_r32, Some(from)) if register(0) == Some(from) => Some(0),
            (Code::And_rm32_imm8 | Code::And_rm32_imm32 | Code::And_EAX_imm32, None) => register(0)
                .and_then(|to| constants[to])
                .map(|value| value & instruction.immediate(1) & 0xffff_ffff),
            _ => None,
        };
        for used in self.info.info(instruction).used_registers() {
            let reads = [OpAccess::None, OpAccess::Read, OpAccess::CondRead, OpAccess::NoMemAccess];
            if let Some(number) = general(used.register()).filter(|_| !reads.contains(&used.access())) {
                constants[number] = None;
            }
        }
        if let (Some(value), Some(to)) = (value, register(0)) {
            constants[to] = Some(value);
        }
        None
    }
}

fn general(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}
