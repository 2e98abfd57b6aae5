//! Golden prints, made by hand.

use super::*;
use crate::{
    fixtures::profiles::{empty, full},
    report::PrintFormat,
};
use insta::assert_snapshot;

fn call(call: &'static str, delta: i64, kind: Kind, stack: Option<u32>) -> GrowthCall {
    GrowthCall {
        time_ns: 1_767_225_605_123_456_789,
        pid: 42,
        tid: 43,
        comm: "app".into(),
        call,
        delta,
        total: Some(73_400_320),
        address: 94_000_000,
        kind,
        stack: stack.map(StackId),
    }
}

fn calls() -> Vec<GrowthCall> {
    let mut odd = call("mremap", 4096, Kind::File, None);
    odd.comm = "odd\nname".into();
    vec![
        call("brk", 1_081_344, Kind::Heap, Some(1)),
        call("munmap", -135_168, Kind::Anonymous, Some(4)),
        // Nothing but the C library.
        call("mmap", 0, Kind::Stack, Some(9)),
        odd,
    ]
}

fn rendered(format: PrintFormat, first: bool, stacks: bool) -> String {
    let (mut profile, mut out) = (full(), Vec::new());
    let libc = profile.stacks[0].frames[2];
    profile.stacks.push(crate::model::Stack { frames: vec![libc], ..profile.stacks[0].clone() });
    // A call from the C library's inside.
    profile.stacks[1].frames.insert(0, libc);
    render_calls(format, (&profile, &calls()), first, stacks, &mut out).expect("writing to memory");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn a_call_is_a_line_with_three_frames() {
    assert_snapshot!(rendered(PrintFormat::Text, true, true));
}

#[test]
fn lines_without_stacks_end_with_the_kind() {
    assert_snapshot!(rendered(PrintFormat::Text, false, false));
}

#[test]
fn a_call_in_json_is_one_line() {
    let text = rendered(PrintFormat::Json, true, true);
    assert_eq!(text.matches('\n').count(), calls().len());
    assert_snapshot!(text.replace(",{", ",\n{").replace(":[{", ":[\n{"));
}

fn end(format: PrintFormat, profile: &Profile) -> String {
    let totals = [
        GrowthTotals {
            pid: 42,
            comm: "app".into(),
            calls: 1_234,
            grown_bytes: 3 << 20,
            given_back_bytes: 5 << 20,
            madvised_bytes: 9 << 20,
            first: Some(70 << 20),
            last: Some(77 << 20),
        },
        GrowthTotals { pid: 7, comm: "small".into(), calls: 1, grown_bytes: 4096, ..Default::default() },
    ];
    let mut out = Vec::new();
    let ends = [(StackEnd::Complete, 12), (StackEnd::NoMapping, 3), (StackEnd::Depth, 0)].into();
    let end =
        WatchEnd { profile, min_bytes: 1 << 20, shown: 17, ends: &ends, totals: &totals, verbose: false };
    render_end(format, &end, &mut out).expect("writing to memory");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn the_end_has_totals_and_losses() {
    assert_snapshot!(end(PrintFormat::Text, &full()));
    assert!(end(PrintFormat::Text, &empty()).contains("#   no losses\n"));
}

#[test]
fn raw_numbers_are_whole() {
    let raw = || rendered(PrintFormat::Text, true, false) + &end(PrintFormat::Text, &full());
    assert_snapshot!(crate::units::Numbers::Raw.within(raw));
}

#[test]
fn the_end_in_json_is_one_line() {
    let text = end(PrintFormat::Json, &empty());
    assert_eq!(text.matches('\n').count(), 1);
    assert_snapshot!(text.replace(",{", ",\n{").replace(":[{", ":[\n{").replace(":{", ":\n{"));
}
