//! Golden prints, made by hand.

use super::*;
use crate::{
    fixtures::profiles::{empty, full, threaded},
    model::{FunctionStatistics, Mode},
    report::PrintFormat,
};
use heaptrace_common::function::Function;
use insta::assert_snapshot;

const TIME: i64 = 1_767_225_605_000_000_000;

fn statistics() -> Vec<Statistics> {
    let mut first = Statistics::default();
    first.lifetimes[0] = 2;
    first.lifetimes[4] = 3;
    first.lifetimes[10] = 1;
    let calls = |frees, free_bytes, failed| FunctionStatistics { frees, free_bytes, failed };
    first.functions.insert(Function::Malloc, calls(0, 0, 1));
    first.functions.insert(Function::Realloc, calls(1, 100_001, 0));
    first.functions.insert(Function::Free, calls(5, 4_102, 0));
    vec![first, Statistics::default()]
}

fn rendered(format: PrintFormat, stat: &Stat<'_>) -> String {
    let mut out = Vec::new();
    render(format, stat, &mut out).expect("writing to memory");
    String::from_utf8(out).expect("UTF-8")
}

fn last<'a>(profile: &'a Profile, statistics: &'a [Statistics]) -> Stat<'a> {
    Stat {
        profile,
        statistics,
        last: true,
        time_ns: TIME,
        before: None,
        command: Some(CommandEnd::Exited(3)),
        verbose: false,
    }
}

#[test]
fn all_processes_and_each() {
    assert_snapshot!(rendered(PrintFormat::Text, &last(&full(), &statistics())));
}

#[test]
fn one_process_is_its_own_sum_and_none_is_told() {
    let mut profile = full();
    profile.processes.truncate(1);
    profile.sites.retain(|site| site.process.index() == 0);
    let text = rendered(PrintFormat::Text, &last(&profile, &statistics()));
    assert_eq!(text.matches("\n== ").count(), 1, "{text}");
    let text = rendered(PrintFormat::Text, &last(&empty(), &[]));
    assert!(text.contains("No process was traced.") && text.contains("# Coverage:"), "{text}");
}

#[test]
fn what_is_not_counted_is_not_shown() {
    let of = |mode| {
        let profile = Profile { mode, ..full() };
        let statistics = statistics();
        let stat = last(&profile, &statistics);
        let line = Stat { last: false, command: None, ..stat };
        rendered(PrintFormat::Text, &stat) + &rendered(PrintFormat::Text, &line)
    };
    let allocs = of(Mode::Allocs);
    assert!(
        allocs.contains("live at the end, or exit, at most") && allocs.contains("live, at most"),
        "{allocs}"
    );
    assert!(!allocs.contains("  Frees") && !allocs.contains("Lifetimes"), "{allocs}");
    let growth = of(Mode::Growth);
    assert!(
        growth.contains("  mmap  ") && !growth.contains("Function") && !growth.contains("live at"),
        "{growth}"
    );
}

#[test]
fn an_interval_is_a_line_of_what_happened_in_it() {
    let profile = full();
    let statistics = statistics();
    let before =
        Glance { duration_ns: 3_000_000_000, alloc_bytes: 1_000_000, alloc_count: 8, ..Glance::default() };
    let stat = Stat { last: false, before: Some(&before), ..last(&profile, &statistics) };
    let heading = rendered(PrintFormat::Text, &Stat { before: None, ..stat });
    assert_eq!(heading.lines().count(), 2);
    assert_snapshot!(format!("{heading}{}", rendered(PrintFormat::Text, &stat)));
}

#[test]
fn each_thread_has_what_it_allocated_and_the_rest_is_nobodys() {
    let mut profile = threaded();
    profile.processes.truncate(1);
    profile.sites.retain(|site| site.process.index() == 0);
    profile.processes[0].totals.alloc_bytes += 1_009;
    profile.processes[0].totals.alloc_count += 1;
    let statistics = statistics();
    let stat = last(&profile, &statistics);
    let text = rendered(PrintFormat::Text, &stat);
    let from = text.find("  Thread").expect("a table");
    assert_snapshot!(&text[from..][..text[from..].find("\n\n").expect("an end")]);
    let json: serde_json::Value = serde_json::from_str(&rendered(PrintFormat::Json, &stat)).expect("JSON");
    let process = &json["processes"][0];
    let threads = process["threads"].as_array().expect("threads");
    let sum = |key: &str| threads.iter().filter_map(|thread| thread[key].as_u64()).sum::<u64>();
    for key in ["alloc_bytes", "alloc_count", "free_bytes", "live_bytes", "live_count"] {
        assert_eq!(Some(sum(key)), process[key].as_u64(), "{key}");
    }
    assert!(threads.last().is_some_and(|rest| rest["thread"].is_null()), "{threads:?}");
}

#[test]
fn raw_numbers_are_whole() {
    let (profile, statistics) = (full(), statistics());
    let of = |last_one| {
        rendered(PrintFormat::Text, &Stat { last: last_one, before: None, ..last(&profile, &statistics) })
    };
    assert_snapshot!(crate::units::Numbers::Raw.within(|| format!("{}\n{}", of(false), of(true))));
}

#[test]
fn a_print_in_json_is_one_line() {
    let text = rendered(PrintFormat::Json, &last(&full(), &statistics()));
    assert_eq!(text.matches('\n').count(), 1);
    assert_snapshot!(text.replace(",{", ",\n{").replace(":[{", ":[\n{").replace(":{", ":\n{"));
}
