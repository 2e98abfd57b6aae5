//! How a golden file shows what was found: nothing in it depends on an order that is not the file's own.

use super::build::Found;
use heaptrace::probes::cut::{Cut, CutSite, Kind, Place, Role};
use heaptrace::probes::symbols::{Forward, FoundFunction, Probing};
use heaptrace_common::function::Shape;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// All functions of a file, those at one address together.
pub fn of(found: &Found) -> String {
    let mut text = String::new();
    write(&mut text, found).expect("a string takes everything");
    text
}

fn write(text: &mut String, found: &Found) -> fmt::Result {
    writeln!(text, "{}, {}", found.library, found.symbols.kind.name())?;
    writeln!(text, "build ID {}", found.build_id)?;
    for refusal in &found.refusals {
        writeln!(text, "left out: {refusal}")?;
    }
    let mut functions: BTreeMap<(u64, u8), Vec<&FoundFunction>> = BTreeMap::new();
    for function in &found.symbols.functions {
        functions.entry((function.address, function.known.shape as u8)).or_default().push(function);
    }
    for ((address, _), mut names) in functions {
        names.sort_by(|one, other| one.symbol.cmp(&other.symbol));
        let joined: Vec<&str> = names.iter().map(|function| function.symbol.as_str()).collect();
        writeln!(text, "\n{address:x} {} ({:?})", joined.join(" "), names[0].known.shape)?;
        self::function(text, found, &names)?;
    }
    Ok(())
}

fn function(text: &mut String, found: &Found, names: &[&FoundFunction]) -> fmt::Result {
    let is_of = |shape: Shape, entry: u64| shape == names[0].known.shape && entry == names[0].offset;
    match found.probes.iter().find(|probe| is_of(probe.shape, probe.entry)) {
        Some(probe) => {
            let traps = match probe.traps() {
                [0, 0] => "no site of its own".to_owned(),
                [1, 1] => "1 trap".to_owned(),
                [least, most] if least == most => format!("{least} traps"),
                [least, most] => format!("{least} to {most} traps"),
            };
            writeln!(text, "  probed as {}, {traps}", probe.symbol)?;
        }
        None => writeln!(text, "  not probed")?,
    }
    for function in names {
        match &function.forwards_to {
            Some(Forward::Address(target)) => writeln!(text, "  {} only calls {target:x}", function.symbol)?,
            Some(Forward::Symbol(target)) => writeln!(text, "  {} only calls {target}", function.symbol)?,
            None => {}
        }
    }
    match &names[0].probing {
        Probing::Sites { cut, .. } => self::cut(text, cut, names[0].known.shape),
        Probing::Refused(why) => writeln!(text, "  refused: {why}"),
    }
}

fn cut(text: &mut String, cut: &Cut, shape: Shape) -> fmt::Result {
    let Cut {
        kind,
        sites,
        unseen_exits,
        passes_on,
        keeps_passed,
        own_code: _,
        bytes,
        why,
        entry,
        between: _,
        begins_first: _,
    } = cut;
    let kind = match kind {
        _ if shape == Shape::Free0 => "free",
        Kind::OneTrap => "one trap",
        Kind::Stash => "stash",
        Kind::EntryAndExits => "entry and exits",
        Kind::Stepped => "stepped",
    };
    let size: u64 = bytes.iter().map(|(_, length)| length).sum();
    writeln!(text, "  {kind}, proven from {size} bytes")?;
    if let Some(why) = why {
        writeln!(text, "  none better: {why}")?;
    }
    if !passes_on.is_empty() {
        let targets: Vec<String> = passes_on.iter().map(|target| format!("{target:x}")).collect();
        let kept = if *keeps_passed { ", arguments kept" } else { "" };
        writeln!(text, "  passes on to {}{kept}", targets.join(" "))?;
    }
    if *unseen_exits != 0 {
        writeln!(text, "  {unseen_exits} unseen exits")?;
    }
    if let Some(entry) = entry {
        writeln!(text, "  verified from {:x} {}", entry.address, entry.text)?;
    }
    sites.iter().try_for_each(|site| self::site(text, site))
}

fn site(text: &mut String, site: &CutSite) -> fmt::Result {
    let CutSite {
        address,
        role,
        condition,
        size,
        factor,
        result,
        caller_bp,
        pushed,
        emulated,
        shared,
        weight: _,
        text: instruction,
    } = site;
    let role = match role {
        Role::Begin | Role::Entered => "begin",
        Role::Whole => "whole",
        Role::Result => "result",
        Role::Free => "free",
        Role::Sample | Role::SampleFree => "sample",
    };
    let condition = match condition {
        0 => String::new(),
        condition => format!(" if {}", CONDITIONS[usize::from(condition - 1)]),
    };
    write!(text, "    {address:x} {instruction:<36} {role}{condition}:")?;
    for (what, place) in [("size", size), ("factor", factor), ("result", result)] {
        if *place != Place::None {
            write!(text, " {what} {},", self::place(*place))?;
        }
    }
    write!(text, " rbp {}, pushed {pushed}", self::place(*caller_bp))?;
    let remarks = [(*shared, ", shared"), (!*emulated, ", SINGLE-STEPPED")];
    remarks.iter().filter(|(holds, _)| *holds).try_for_each(|(_, remark)| text.write_str(remark))?;
    writeln!(text)
}

/// As jumps have them, in the order of their opcodes.
const CONDITIONS: [&str; 16] =
    ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];

/// In the order of their numbers in machine code.
const REGISTERS: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

fn place(place: Place) -> String {
    match place {
        Place::None => "unknown".to_owned(),
        Place::Zero => "0".to_owned(),
        Place::Register(number) => REGISTERS[usize::from(number & 15)].to_owned(),
        Place::Stack(offset) => format!("[rsp+{offset}]"),
    }
}
