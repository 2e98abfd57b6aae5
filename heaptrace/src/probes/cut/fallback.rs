//! What is left where no cut can be proven: the arguments at the beginning, the result at every return, single-stepped.
//! A function's instructions are then found by a sweep, which is only believed if every jump of the function agrees.

use super::answer::{Cut, CutSite, Kind, NoCut, Request};
use super::image::Image;
use super::instruction::writes;
use super::node::returns_its_first_argument;
use super::references::Source;
use super::state::RBP;
use super::{Place, Role, candidates, early, own_code};
use heaptrace_common::probe::condition;
use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

/// The most functions that one goes on in.
const MAX_PARTS: usize = 12;

/// The most instructions in all: those of jemalloc's largest function, six times.
const MAX_INSTRUCTIONS: usize = 20_000;

/// The cut of last resort, for the reason `why`.
pub fn cut(image: &Image<'_>, request: &Request<'_>, why: NoCut) -> Result<Cut, NoCut> {
    let mut begin =
        early::one_site(image, request.entry, request.shape, request.emulation).map_err(|_| why)?;
    begin.role = Role::Begin;
    let mut sweep = Sweep {
        image,
        request,
        parts: Vec::new(),
        // What can be reached otherwise gives results that are nobody's.
        waiting: vec![(request.entry, matches!(why, NoCut::Reached(_) | NoCut::TooMuchCode))],
        sites: Vec::new(),
        passes_on: BTreeSet::new(),
        unseen: 0,
        instructions: 0,
    };
    while let Some((address, shared)) = sweep.waiting.pop() {
        sweep.function(address, shared).ok_or(why)?;
    }
    let Sweep { parts, mut sites, passes_on, unseen, .. } = sweep;
    if sites.is_empty() && passes_on.is_empty() {
        return Err(why);
    }
    if sites.iter().any(|site| site.address == begin.address) {
        return Err(why);
    }
    if !sites.is_empty() {
        sites.push(begin);
    }
    sites.sort_by_key(|site| (site.role, site.address));
    let begins_first = sites.iter().any(|site| site.role == Role::Begin);
    let own: Vec<Range<u64>> =
        parts.iter().filter(|(_, shared)| !shared).map(|(range, _)| range.clone()).collect();
    let own_code = own_code::find(image, &own, request.entry, request.probed);
    Ok(Cut {
        kind: Kind::Stepped,
        keeps_passed: !sites.is_empty(),
        sites,
        unseen_exits: unseen,
        passes_on: passes_on.into_iter().collect(),
        own_code: own_code.ranges,
        between: own_code.between,
        begins_first,
        bytes: parts.iter().map(|(range, _)| (range.start, range.end - range.start)).collect(),
        why: Some(why),
        entry: None,
    })
}

/// Whether a computed jump, with what comes before it, goes by a table of the function's own code: `jmp [table+rax*8]`,
/// or by a register that was loaded so, or that a table's element was added to. Another one ends the call elsewhere: in a
/// hook, or in what was found for this processor when the program began.
fn is_by_table(jump: &Instruction, before: &[Instruction]) -> bool {
    /// How far before the jump its register is looked for.
    const MAX_DISTANCE: usize = 8;
    let indexed = |instruction: &Instruction| instruction.memory_index() != Register::None;
    if jump.op0_kind() != OpKind::Register {
        return indexed(jump);
    }
    let register = jump.op0_register();
    let mut info = InstructionInfoFactory::new();
    let is_set = |instruction: &&Instruction| {
        let used = info.info(instruction).used_registers();
        used.iter().any(|used| writes(used.access()) && used.register().full_register() == register)
    };
    let set = before.iter().rev().take(MAX_DISTANCE).find(is_set);
    set.is_some_and(|set| match set.mnemonic() {
        Mnemonic::Add => set.op1_kind() == OpKind::Register || indexed(set),
        Mnemonic::Mov => set.op1_kind() == OpKind::Memory && indexed(set),
        _ => false,
    })
}

struct Sweep<'a, 'data> {
    image: &'a Image<'data>,
    request: &'a Request<'a>,
    /// Code, and whether other functions use it, too.
    parts: Vec<(Range<u64>, bool)>,
    waiting: Vec<(u64, bool)>,
    sites: Vec<CutSite>,
    passes_on: BTreeSet<u64>,
    unseen: u32,
    instructions: usize,
}

impl Sweep<'_, '_> {
    /// Looks through the function at `address`. `None` where its instructions are not certain.
    fn function(&mut self, address: u64, shared: bool) -> Option<()> {
        if self.parts.iter().any(|(range, _)| range.contains(&address)) {
            return Some(());
        }
        let span = self.image.function(address)?;
        let range = span.start..span.end;
        let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        let restarted =
            self.image.restartable.iter().any(|(other, to)| overlaps(other) || range.contains(to));
        if self.parts.len() >= MAX_PARTS || restarted {
            return None;
        }
        let shared = shared || !self.parts.is_empty() && !self.is_exclusive(&range);
        let instructions = self.instructions(&range)?;
        self.parts.push((range.clone(), shared));
        for (index, instruction) in instructions.iter().enumerate() {
            self.instruction(instruction, &instructions[..index], &range, shared)?;
        }
        Some(())
    }

    /// Whether only what was looked through leads into `range`.
    fn is_exclusive(&self, range: &Range<u64>) -> bool {
        let Some(references) = self.image.references() else { return false };
        let is_own = |from: &u64| {
            range.contains(from) || self.parts.iter().any(|(range, shared)| !shared && range.contains(from))
        };
        !self.image.is_exported(range.start)
            && references
                .into(range.clone())
                .iter()
                .all(|(_, source)| matches!(source, Source::Branch(from) if is_own(from)))
    }

    fn instructions(&mut self, range: &Range<u64>) -> Option<Vec<Instruction>> {
        let mut instructions = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let instruction = self.image.memory.instruction(at)?;
            at = instruction.next_ip();
            instructions.push(instruction);
            self.instructions += 1;
            if self.instructions > MAX_INSTRUCTIONS {
                return None;
            }
        }
        let starts: HashSet<u64> = instructions.iter().map(Instruction::ip).collect();
        let agrees = instructions.iter().filter(|i| i.op0_kind() == OpKind::NearBranch64).all(|branch| {
            let target = branch.near_branch_target();
            !range.contains(&target) || starts.contains(&target)
        });
        (at == range.end && agrees).then_some(instructions)
    }

    fn instruction(
        &mut self,
        instruction: &Instruction,
        before: &[Instruction],
        range: &Range<u64>,
        shared: bool,
    ) -> Option<()> {
        match instruction.flow_control() {
            FlowControl::Return if instruction.code() != Code::Retnq => return None,
            FlowControl::Return => self.result(instruction, Place::Register(0), 0, shared),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
                if !range.contains(&instruction.near_branch_target()) =>
            {
                self.jump(instruction, shared)?;
            }
            FlowControl::IndirectBranch if instruction.is_ip_rel_memory_operand() => {
                let name = self.image.slot_name(instruction.ip_rel_memory_address());
                self.named(instruction, name, shared);
            }
            FlowControl::IndirectBranch => self.unseen += u32::from(!is_by_table(instruction, before)),
            _ => {}
        }
        Some(())
    }

    fn jump(&mut self, instruction: &Instruction, shared: bool) -> Option<()> {
        let target = instruction.near_branch_target();
        if self.request.probed.contains(&target) {
            self.passes_on.insert(target);
        } else if let Some(name) = self.image.stub_name(target) {
            self.named(instruction, Some(name), shared);
        } else {
            self.waiting.push((target, shared));
        }
        Some(())
    }

    /// A jump to what has a name.
    fn named(&mut self, instruction: &Instruction, name: Option<&str>, shared: bool) {
        let is_jump = instruction.flow_control() == FlowControl::UnconditionalBranch;
        match name.and_then(|name| self.image.definition(name)) {
            _ if is_jump && name.is_some_and(returns_its_first_argument) => {
                self.result(instruction, Place::Register(7), 0, shared);
            }
            Some(target) if self.request.probed.contains(&target) => {
                self.passes_on.insert(target);
            }
            Some(target) => self.waiting.push((target, shared)),
            None => self.unseen += 1,
        }
    }

    fn result(&mut self, instruction: &Instruction, result: Place, pushed: u32, shared: bool) {
        let emulated = instruction.flow_control() != FlowControl::Return;
        self.sites.push(CutSite {
            address: instruction.ip(),
            role: Role::Result,
            condition: condition::ALWAYS,
            size: Place::None,
            factor: Place::None,
            result,
            caller_bp: Place::Register(RBP as u8),
            pushed,
            emulated,
            shared,
            weight: 1000,
            text: candidates::text(instruction),
        });
    }
}
