//! Suspicious frees: of what was freed before, of what was never given out, and by the other one of free and delete.

use super::{Options, frames::Frames, labels::Labels, select::chosen, table::process_name};
use crate::model::{
    BadFree, Call, Coverage, FreePair, Frees, Meant, Note, Process, ProcessId, Profile, StackId,
};
use crate::units::{counted, thousands};
use heaptrace_common::counter::Counter;
use serde::Serialize;
use std::io::{self, Write};

/// Those that text shows, and frames of each stack.
const SHOWN: usize = 10;
const FRAMES: usize = 12;

/// What is wrong with frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    DoubleFree,
    NeverGivenOut,
    FreeOfNew,
    DeleteOfMalloc,
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Self::DoubleFree => "free of a block that was freed before",
            Self::NeverGivenOut => "free of an address that was not given out",
            Self::FreeOfNew => "free of a block that C++'s new gave",
            Self::DeleteOfMalloc => "delete of a block that malloc or its kin gave",
        }
    }
}

/// Suspicious frees from one stack.
struct Suspicious {
    kind: Kind,
    process: ProcessId,
    count: u64,
    address: Option<u64>,
    call: Call,
    freed: Option<Call>,
    allocated: Option<Call>,
}

/// Those of the processes that `options` choose; the gravest kinds first, each by how often.
fn suspicious(profile: &Profile, frees: &Frees, options: &Options) -> Vec<Suspicious> {
    let is_chosen =
        |id: ProcessId| profile.processes.get(id.index()).is_some_and(|process| chosen(process, options));
    let bad = frees.bad.iter().map(|of| {
        let BadFree { process, call, count, address, allocated, freed } = *of;
        let kind = if allocated.is_some() { Kind::DoubleFree } else { Kind::NeverGivenOut };
        Suspicious { kind, process, count, address: Some(address), call, freed, allocated }
    });
    let mismatched = frees.pairs.iter().filter_map(|of| {
        let FreePair { process, allocated, freed: call, meant, count } = *of;
        let kind = mismatch(profile, allocated, call, meant)?;
        Some(Suspicious {
            kind,
            process,
            count,
            address: None,
            call,
            freed: None,
            allocated: Some(allocated),
        })
    });
    let mut all: Vec<Suspicious> = bad.chain(mismatched).filter(|of| is_chosen(of.process)).collect();
    all.sort_by_key(|of| of.kind as u8);
    all
}

/// Whether a block was allocated as C++ does, and freed as C does, or the other way.
fn mismatch(profile: &Profile, allocated: Call, freed: Call, (given, taken): (Meant, Meant)) -> Option<Kind> {
    let is_in = |call: Call, operator| is_in_operator(profile, call.stack, operator);
    // What the C++ library makes of its operators is calls of malloc and free.
    let given = if is_in(allocated, "operator new") { Meant::Cpp } else { given };
    let taken = if is_in(freed, "operator delete") { Meant::Cpp } else { taken };
    match (given, taken) {
        (Meant::Cpp, Meant::C) => Some(Kind::FreeOfNew),
        (Meant::C, Meant::Cpp) => Some(Kind::DeleteOfMalloc),
        _ => None,
    }
}

/// Whether a stack's innermost frame is in the global operator of this name, inlined or not: one of a class has that before it.
fn is_in_operator(profile: &Profile, stack: StackId, operator: &str) -> bool {
    let frame = profile.stacks.get(stack.index()).and_then(|stack| stack.frames.first());
    let location = frame.and_then(|frame| profile.frames.get(frame.index())).map(|frame| frame.location);
    let symbols = location.and_then(|at| profile.symbols.get(at.index()));
    symbols.is_some_and(|symbols| symbols.iter().any(|symbol| symbol.name.starts_with(operator)))
}

/// Whether every call was seen that may have given out what was freed. Else a block of one that was not looks as if it was not given
/// out, or freed before.
fn saw_all(profile: &Profile) -> bool {
    const MISSED: [Counter; 7] = [
        Counter::LiveMapFull,
        Counter::PendingFull,
        Counter::ProcessTableFull,
        Counter::MissedReturn,
        Counter::UnpairedReturn,
        Counter::ResultUnreadable,
        Counter::Disagreed,
    ];
    let Coverage { counts, notes, .. } = &profile.coverage;
    let is_missed = |note: &Note| {
        matches!(
            note,
            Note::NotProbed { .. }
                | Note::HiddenAllocator { .. }
                | Note::ProbesNotPlaced { .. }
                | Note::ProbedLate { .. }
                | Note::Distrusted { .. }
                | Note::NotProbedAgain { .. }
                | Note::BreakpointsNotHeld { .. }
                | Note::BreakpointsGone { .. }
        )
    };
    // Or its probes were away on purpose, or functions gave blocks whose calls are only told.
    let is_late = |process: &Process| {
        process.missed_later_ns() > 0 || process.paused_ns > 0 || process.unseen_calls > 0
    };
    MISSED.iter().all(|counter| counts.get(*counter) == 0)
        && !notes.kinds().iter().flat_map(|cases| cases.kept()).any(is_missed)
        && !profile.processes.iter().any(is_late)
}

/// Writes them, where frees were looked into.
pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let Some(frees) = &profile.frees else { return Ok(()) };
    let all = suspicious(profile, frees, options);
    if all.is_empty() {
        let cut = if frees.is_cut { " among those that were kept: there were too many" } else { "" };
        return writeln!(out, "#\n# Suspicious frees: none{cut}");
    }
    writeln!(out, "#\n# Suspicious frees:")?;
    if !saw_all(profile) {
        writeln!(
            out,
            "#   Not all calls were seen (see the coverage): what is freed below may have been given out by one that was not."
        )?;
    }
    let labels = Labels::attributed(profile, &options.frames);
    for (place, of) in (1..).zip(all.iter().take(if options.verbose { all.len() } else { SHOWN })) {
        let process = profile.processes.get(of.process.index()).map_or_else(String::new, process_name);
        let times = counted(of.count, "time", "times");
        let address = of.address.map_or_else(String::new, |address| format!(", first of 0x{address:x}"));
        writeln!(out, "#   {place}. {}, {times}{address}, in {process}", of.kind.title())?;
        let by = if of.kind == Kind::DeleteOfMalloc { "delete" } else { of.call.function.name() };
        write_call(by, of.call, &labels, out)?;
        match (of.kind, of.freed) {
            (_, Some(freed)) => {
                write_call(&format!("freed before by {}", freed.function.name()), freed, &labels, out)?
            }
            (Kind::DoubleFree, None) => writeln!(out, "#      freed before by realloc")?,
            _ => {}
        }
        if let Some(allocated) = of.allocated {
            let by = if of.kind == Kind::FreeOfNew { "new" } else { allocated.function.name() };
            write_call(&format!("allocated by {by}"), allocated, &labels, out)?;
        }
    }
    if all.len() > SHOWN && !options.verbose {
        writeln!(out, "#   and {} more (--verbose)", thousands((all.len() - SHOWN) as u64))?;
    }
    if frees.is_cut {
        writeln!(out, "#   There were too many different ones for the tables: there may be more.")?;
    }
    Ok(())
}

fn write_call(how: &str, call: Call, labels: &Labels<'_>, out: &mut dyn Write) -> io::Result<()> {
    let through = labels.left_out(call.stack, 1);
    writeln!(out, "#      {how}{through}, called from")?;
    for label in labels.walk_shown(Some(call.stack)).take(FRAMES) {
        writeln!(out, "#          {}", labels.in_line(label))?;
    }
    Ok(())
}

/// For programs.
#[derive(Serialize)]
pub(super) struct Entry<'a> {
    /// Every call was seen that may have given out what was freed.
    certain: bool,
    /// There may be more.
    cut: bool,
    suspicious: Vec<SuspiciousEntry<'a>>,
}

#[derive(Serialize)]
struct SuspiciousEntry<'a> {
    kind: Kind,
    pid: u32,
    count: u64,
    address: Option<u64>,
    call: CallEntry<'a>,
    freed: Option<CallEntry<'a>>,
    allocated: Option<CallEntry<'a>>,
}

#[derive(Serialize)]
struct CallEntry<'a> {
    function: &'static str,
    stack: Frames<'a>,
}

/// `None` where frees were not looked into.
pub(super) fn entry<'a>(profile: &'a Profile, options: &Options) -> Option<Entry<'a>> {
    let frees = profile.frees.as_ref()?;
    let call =
        |of: Call| CallEntry { function: of.function.name(), stack: Frames { profile, stack: of.stack } };
    let suspicious = suspicious(profile, frees, options).into_iter().map(|of| SuspiciousEntry {
        kind: of.kind,
        pid: profile.processes.get(of.process.index()).map_or(0, |process| process.pid),
        count: of.count,
        address: of.address,
        call: call(of.call),
        freed: of.freed.map(call),
        allocated: of.allocated.map(call),
    });
    Some(Entry { certain: saw_all(profile), cut: frees.is_cut, suspicious: suspicious.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::profiles::full,
        report::{Format, render},
    };
    use heaptrace_common::function::Function;

    /// [`full`], with a double free, one of what was never given out, and a free of what new gave.
    fn checked() -> Profile {
        let mut profile = full();
        profile.coverage.counts = Default::default();
        profile.symbols[7][0].name = "operator new(unsigned long)".into();
        let call = |function, stack| Call { function, stack: StackId(stack) };
        let (malloc, free) = (Function::Malloc, Function::Free);
        let bad = BadFree {
            process: ProcessId(0),
            call: call(free, 0),
            count: 3,
            address: 0x55d0_c0de_0010,
            allocated: Some(call(malloc, 1)),
            freed: Some(call(free, 8)),
        };
        let never = BadFree { count: 1, allocated: None, freed: None, ..bad };
        let pair = |allocated, freed, meant| FreePair {
            process: ProcessId(0),
            allocated: call(malloc, allocated),
            freed: call(free, freed),
            meant,
            count: 7,
        };
        let pairs = vec![
            // The first frame is in operator new, which calls malloc.
            pair(2, 1, (Meant::C, Meant::C)),
            pair(2, 1, (Meant::C, Meant::Cpp)),
            pair(0, 1, (Meant::C, Meant::C)),
            pair(0, 1, (Meant::C, Meant::Cpp)),
            pair(0, 1, (Meant::Other, Meant::Cpp)),
        ];
        profile.frees = Some(Box::new(Frees { bad: vec![bad, never], pairs, is_cut: false }));
        profile
    }

    #[test]
    fn each_is_told_with_its_stacks() {
        let mut out = Vec::new();
        write(&checked(), &Options::default(), &mut out).expect("memory");
        insta::assert_snapshot!(String::from_utf8(out).expect("UTF-8"));
    }

    #[test]
    fn nothing_is_said_where_nothing_was_looked_at_and_none_where_there_is_none() {
        let said = |profile: &Profile| {
            let mut out = Vec::new();
            write(profile, &Options::default(), &mut out).expect("memory");
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(said(&full()), "");
        let mut profile = checked();
        profile.frees = Some(Box::default());
        assert_eq!(said(&profile), "#\n# Suspicious frees: none\n");
        let mut profile = checked();
        profile.coverage.counts.add(Counter::MissedReturn, 1);
        assert!(said(&profile).contains("Not all calls were seen"));
    }

    #[test]
    fn json_has_them_all() {
        let mut out = Vec::new();
        render(Format::Json, &checked(), &Options::default(), &mut out).expect("memory");
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        let kinds: Vec<_> =
            json["frees"]["suspicious"].as_array().expect("a list").iter().map(|of| &of["kind"]).collect();
        assert_eq!(kinds, ["double-free", "never-given-out", "free-of-new", "delete-of-malloc"]);
        assert_eq!(json["frees"]["suspicious"][0]["freed"]["stack"][0]["symbol"], "load");
    }
}
