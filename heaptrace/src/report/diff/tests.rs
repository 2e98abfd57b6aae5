//! Comparisons of profiles made by hand.

use super::{compare::State, *};
use crate::{
    attribution::Attribution,
    fixtures::profiles::{full, sampled},
    model::{BuildId, Location, Profile, Site, StackId},
    report::View,
};
use insta::assert_snapshot;

fn options() -> DiffOptions {
    DiffOptions {
        view: View::Live,
        by: DiffBy::Stack,
        per: Per::Recording,
        top: 10,
        min_bytes: 0,
        limit: None,
    }
}

fn compared(profiles: &[Profile], options: &DiffOptions) -> Compared {
    let mut names = Names::default();
    let files = ["before.data", "after.data", "later.data"];
    let sides = profiles.iter().zip(files);
    let frames = Attribution::default();
    let (view, by) = (options.view, options.by);
    let chosen = Chosen { view, by, frames: &frames, whole_stacks: false, ignored: None };
    let sides = sides.map(|(of, file)| Side::new(file, of, chosen, &mut names)).collect();
    Compared::new(names, sides, options)
}

fn rendered(format: DiffFormat, profiles: &[Profile], options: &DiffOptions) -> String {
    let mut out = Vec::new();
    render_diff(format, &compared(profiles, options), options, &mut out).expect("writing to memory");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn a_function_is_the_first_that_is_the_users() {
    let mut profile = full();
    profile.symbols[0][0].name = "operator new(unsigned long)".into();
    profile.symbols[0][1].name = "std::vector<int>::push_back(int const&)".into();
    let rows = |raw: bool, by, whole_stacks| {
        let frames = if raw { Attribution::raw() } else { Attribution::default() };
        let mut names = Names::new(frames.clone());
        let chosen = Chosen { view: View::Live, by, frames: &frames, whole_stacks, ignored: None };
        let side = Side::new("x.data", &profile, chosen, &mut names);
        let innermost = side.rows.keys().filter_map(|key| key.frames.first());
        (side.folded, innermost.map(|id| names.shown(*id).into_owned()).collect::<Vec<_>>())
    };
    let new = || "operator new(unsigned long)".to_owned();
    let (folded, functions) = rows(false, DiffBy::Function, true);
    assert!(
        folded == 2 && functions.contains(&"load".to_owned()) && !functions.contains(&new()),
        "{functions:?}"
    );
    for (raw, by) in [(true, DiffBy::Function), (false, DiffBy::Stack)] {
        let (folded, functions) = rows(raw, by, true);
        assert!(folded == 0 && functions.contains(&new()), "{functions:?}");
    }
    assert_eq!(rows(false, DiffBy::Stack, false).0, 2);
}

/// The same program a day later, rebuilt: all lies elsewhere, lines moved, tables are in another order; one site has more, one
/// has less, one is gone, one is new.
fn later() -> Profile {
    let mut profile = full();
    for module in &mut profile.modules {
        module.build_id = module.build_id.as_ref().map(|id| BuildId([&id.0[..], &[1]].concat()));
    }
    for location in &mut profile.locations {
        if let Location::InModule { offset, .. } = location {
            *offset += 0x40;
        }
    }
    for symbol in profile.symbols.iter_mut().flatten() {
        symbol.line = symbol.line.map(|line| line + 3);
    }
    for process in &mut profile.processes {
        process.pid += 1000;
        process.totals = Default::default();
    }
    profile.sites.reverse();
    let process = profile.sites[0].process;
    profile.sites.retain(|site| site.stack != StackId(1));
    for site in &mut profile.sites {
        match site.stack {
            StackId(0) => {
                site.totals.alloc_bytes += 100_000;
                site.totals.alloc_count += 2;
            }
            StackId(2) => site.totals.free_bytes += 5,
            _ => {}
        }
    }
    let new = profile.sites.iter().find(|site| site.stack == StackId(0)).expect("a site").clone();
    let mut stack = profile.stacks[8].clone();
    stack.frames.extend(&profile.stacks[2].frames);
    profile.stacks.push(stack);
    profile.sites.push(Site { process, stack: StackId(9), ..new });
    profile
}

fn states(compared: &Compared) -> Vec<(&'static str, f64)> {
    let changed = compared.rows.iter().filter(|row| row.state != State::Same);
    changed.map(|row| (row.state.name(), row.changed.bytes_change.value)).collect()
}

#[test]
fn a_recording_has_not_changed_since_itself() {
    let compared = compared(&[full(), full()], &options());
    assert_eq!(states(&compared), []);
    assert_eq!(compared.total.bytes_change.value, 0.0);
    assert!(!compared.grew_too_much());
    let text = rendered(DiffFormat::Text, &[full(), full()], &options());
    assert!(text.contains("Nothing changed."), "{text}");
}

#[test]
fn another_build_is_compared_stack_by_stack() {
    let text = || rendered(DiffFormat::Text, &[full(), later()], &options());
    assert_snapshot!("text", text());
    assert_snapshot!("text_raw", crate::units::Numbers::Raw.within(text));
}

#[test]
fn the_other_formats_say_the_same() {
    let profiles = [full(), later()];
    assert_snapshot!("csv", rendered(DiffFormat::Csv, &profiles, &options()));
    assert_snapshot!("markdown", rendered(DiffFormat::Markdown, &profiles, &options()));
    let json = rendered(DiffFormat::Json, &profiles, &options());
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_snapshot!("json", serde_json::to_string_pretty(&value).expect("JSON"));
    let svg = rendered(DiffFormat::Svg, &profiles, &options());
    assert!(svg.contains("buffer::grow"), "{svg:.400}");
}

#[test]
fn what_may_not_grow_is_named() {
    let of = |limit| {
        let options = DiffOptions { limit: Some(limit), ..options() };
        compared(&[full(), later()], &options).too_much()
    };
    assert!(of(Limit::Bytes(1 << 30)).is_empty());
    let told = of(Limit::Bytes(99_995));
    assert!(told.iter().any(|told| told.starts_with("buffer::grow in app grew by 99,995 bytes")), "{told:?}");
    assert!(told[0].starts_with("all together grew by "), "{told:?}");
    assert!(of(Limit::Percent(500.0)).is_empty());
    assert!(!of(Limit::Percent(1.0)).is_empty());
}

#[test]
fn numbers_are_those_of_what_was_done() {
    let twice = |profile: &Profile| {
        let mut profile = profile.clone();
        profile.duration_ns *= 2;
        for site in &mut profile.sites {
            site.totals.alloc_bytes *= 2;
            site.totals.alloc_count *= 2;
        }
        for process in &mut profile.processes {
            process.totals.alloc_bytes *= 2;
            process.totals.alloc_count *= 2;
        }
        profile
    };
    let profiles = [full(), twice(&full())];
    let alloc = DiffOptions { view: View::Alloc, ..options() };
    let plain = compared(&profiles, &alloc);
    assert!(!states(&plain).is_empty());
    assert!(plain.remarks(&alloc).iter().any(|remark| remark.contains("--per second")));
    for per in [Per::Second, Per::Counts(vec![10.0, 20.0])] {
        let alloc = DiffOptions { per, ..alloc.clone() };
        let compared = compared(&profiles, &alloc);
        assert_eq!(states(&compared), []);
        assert!(!compared.remarks(&alloc).iter().any(|remark| remark.contains("--per second")));
    }
}

#[test]
fn estimates_change_by_more_than_they_may_be_off_or_not_at_all() {
    let (before, mut after) = (sampled(true), sampled(true));
    let same = compared(&[before.clone(), after.clone()], &options());
    assert_eq!(states(&same), []);
    assert!(!same.total.bytes_change.is_exact());
    // A sample less here, one more there: noise.
    after.sites.pop();
    let noise = compared(&[before, after], &DiffOptions { limit: Some(Limit::Bytes(1)), ..options() });
    assert_eq!(states(&noise), [], "{:?}", noise.rows);
    assert!(!noise.grew_too_much());
}

#[test]
fn several_recordings_are_a_trend() {
    let profiles = [full(), full(), later()];
    let compared = compared(&profiles, &options());
    let grown = &compared.rows[0];
    assert_eq!((grown.state, grown.changed.bytes.len()), (State::Grew, 3));
    assert!(!grown.changed.grows_always(), "not from the first to the second");
    let text = rendered(DiffFormat::Text, &profiles, &options());
    assert!(text.contains("then (2):") && text.contains("820,005 -> 820,005 -> 920,000"), "{text}");
}

#[test]
fn rows_are_by_function_module_or_process() {
    for (by, rows) in [(DiffBy::Function, "buffer::grow"), (DiffBy::Module, "app"), (DiffBy::Process, "app")]
    {
        let text = rendered(DiffFormat::Text, &[full(), later()], &DiffOptions { by, ..options() });
        assert!(text.contains(rows), "{by:?}: {text}");
    }
}
