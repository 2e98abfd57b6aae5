use super::*;
use crate::fixtures::profiles::{full, large};
use crate::model::{FrameId, StackId};
use crate::report::View;
use insta::assert_snapshot;

fn rendered(profile: &Profile, options: &Options) -> String {
    let mut out = Vec::new();
    render(profile, options, &mut out).expect("a vector");
    String::from_utf8(out).expect("UTF-8")
}

/// Without what other formats have, too.
fn body(text: &str) -> &str {
    &text[text.find("positions:").expect("positions")..]
}

#[test]
fn a_call_graph_with_files_and_lines() {
    let text = rendered(&full(), &Options::default());
    assert!(
        text.starts_with("# callgrind format\nversion: 1\ncreator: heaptrace 0.1.0\ndesc: heaptrace "),
        "{text}"
    );
    assert_snapshot!(body(&text));
}

#[test]
fn one_process_is_named_and_its_view_sorts_first() {
    let text = rendered(&full(), &Options { view: View::Growth, pid: Some(42), ..Options::default() });
    assert!(
        text.contains("pid: 42\ncmd: /usr/bin/app\n") && text.contains("\nevents: MappedBytes MappedCalls\n")
    );
    let text = rendered(&full(), &Options { view: View::Alloc, ..Options::default() });
    assert!(text.contains("\nevents: AllocBytes AllocBlocks LiveBytes LiveBlocks\n"), "{text}");
}

#[test]
fn recursion_is_a_function_of_its_own_at_each_depth() {
    let mut profile = full();
    // main, load, main, load, main, from the outside.
    profile.stacks[0].frames = [1, 4, 1, 4, 1].map(FrameId).to_vec();
    profile.sites.truncate(1);
    profile.sites[0].stack = StackId(0);
    let options = Options { pid: Some(42), ..Options::default() };
    let text = rendered(&profile, &options);
    for name in ["main", "main'2", "main'3", "load", "load'2"] {
        assert_eq!(
            text.lines().filter(|line| line.ends_with(&format!(") {name}"))).count(),
            1,
            "{name}: {text}"
        );
    }
}

#[test]
fn functions_of_one_name_are_of_their_modules() {
    let mut profile = full();
    // Neither has a file.
    profile.symbols[3] = profile.symbols[2].clone();
    let text = rendered(&profile, &Options::default());
    let named: Vec<_> = text.lines().filter(|line| line.ends_with(") __libc_start_main")).collect();
    assert_eq!(named.len(), 2, "{text}");
    let objects: Vec<_> =
        text.lines().filter(|line| line.ends_with("/libfoo.so.1") || line.ends_with("/libc.so.6")).collect();
    assert_eq!(objects.len(), 2, "{text}");
}

#[test]
fn what_finds_no_room_is_left_out_and_told_the_largest_last() {
    let profile = large(2_000, 20);
    let text = rendered(&profile, &Options { memory: Some(1 << 20), ..Options::default() });
    let told = text.lines().find(|line| line.contains(" smaller stacks not shown: ")).expect("a line");
    let hidden = told.split_once(" bytes live").and_then(|(told, _)| told.rsplit(' ').next()).expect("bytes");
    let hidden: u64 = hidden.replace(',', "").parse().expect("a number");
    let totals = text.lines().last().expect("totals").split(' ').nth(1).expect("bytes");
    let shown: u64 = totals.parse().expect("a number");
    let all: u64 = profile.processes.iter().map(|process| process.totals.live_bytes()).sum();
    assert_eq!(shown + hidden, all);
    assert!(shown > 0 && text.contains(") function_"), "{told}");
}
