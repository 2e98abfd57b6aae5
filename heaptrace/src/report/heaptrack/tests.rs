use super::*;
use crate::fixtures::profiles::{empty, full};
use crate::model::{Amount, History, Peak, Totals};
use crate::report::View;
use flate2::read::GzDecoder;
use insta::assert_snapshot;
use std::io::Read as _;

fn rendered(profile: &Profile, options: &Options) -> String {
    let mut out = Vec::new();
    render_at_most(profile, options, MOST, &mut out).expect("a vector");
    text(&out)
}

fn text(file: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).expect("UTF-8 in gzip");
    text
}

/// What a reader of the file comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Replayed {
    allocations: u64,
    temporary: u64,
    peak: u64,
    leaked: u64,
    last_ms: u64,
}

fn replayed(text: &str) -> Replayed {
    let mut sizes = Vec::new();
    let (mut nodes, mut pointers, mut strings) = (0, 0, 0);
    let mut held: Vec<u64> = Vec::new();
    let mut came_last = None;
    let mut used = 0;
    let mut of = Replayed::default();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').expect("a kind");
        let numbers = || -> Vec<u64> {
            rest.split(' ').map(|number| u64::from_str_radix(number, 16).expect(line)).collect()
        };
        match kind {
            "v" | "X" | "I" | "R" => {}
            "s" => strings += 1,
            "i" => {
                pointers += 1;
                let numbers = numbers();
                assert!(numbers.len() >= 5 && numbers[2..].len().is_multiple_of(3), "{line}");
                assert!(numbers[1] <= strings, "{line}");
                for frame in numbers[2..].chunks(3) {
                    assert!((1..=strings).contains(&frame[0]) && frame[1] <= strings, "{line}");
                }
            }
            "t" => {
                let numbers = numbers();
                assert!((1..=pointers).contains(&numbers[0]) && numbers[1] <= nodes, "{line}");
                nodes += 1;
            }
            "a" => {
                assert!((1..=nodes).contains(&numbers()[1]), "{line}");
                sizes.push(numbers()[0]);
                held.push(0);
            }
            "+" => {
                let info = numbers()[0] as usize;
                // heaptrack_gui makes room for the next one alone.
                assert!(info <= used, "{line}: only {used} came before");
                used = used.max(info + 1);
                held[info] += 1;
                of.allocations += 1;
                of.leaked += sizes[info];
                of.peak = of.peak.max(of.leaked);
                came_last = Some(info);
            }
            "-" => {
                let info = numbers()[0] as usize;
                held[info] = held[info].checked_sub(1).expect("it is there");
                of.leaked -= sizes[info];
                of.temporary += u64::from(came_last.take() == Some(info));
            }
            "c" => {
                assert!(numbers()[0] >= of.last_ms, "time goes back");
                of.last_ms = numbers()[0];
            }
            _ => panic!("{line}"),
        }
    }
    of
}

fn sum(profile: &Profile, of: fn(&Totals) -> u64) -> u64 {
    profile.processes.iter().map(|process| of(&process.totals)).sum()
}

/// With most live at half-time.
fn with_peak() -> (Profile, u64) {
    let mut profile = full();
    let mut peak = Peak::of(&profile);
    peak.at_ns = 2_500_000_000;
    // Of what was freed since.
    peak.sites[0] = Amount { bytes: 900_001, count: 11 };
    peak.processes[0].bytes += 100_001;
    let all = peak.processes.iter().map(|process| process.bytes).sum();
    let at = |at_ns, bytes| Moment {
        at_ns,
        live: Amount { bytes, count: 1 },
        rss_bytes: 4 * PAGE,
        ..Moment::default()
    };
    let moments = vec![at(0, 0), at(2_500_000_000, all), at(5_000_000_000, 1)];
    profile.history = Some(History { saved: 2, moments, peak: Some(peak), ..History::default() });
    (profile, all)
}

#[test]
fn stacks_and_the_blocks_they_come_to() {
    let text = rendered(&with_peak().0, &Options { pid: Some(43), ..Options::default() });
    let (head, body) = text.split_once("\nI ").expect("a head");
    assert!(head.starts_with("v 10000 1\nX /opt/odd name (live bytes; heaptrace 0.1.0 on "), "{head}");
    assert!(head.contains("; the peak is the highest of 2 moments"), "{head}");
    assert_snapshot!(body);
}

#[test]
fn a_reader_finds_all_allocations_the_peak_and_what_is_left() {
    let (profile, peak) = with_peak();
    let expected = Replayed {
        allocations: sum(&profile, |totals| totals.alloc_count),
        temporary: 0,
        peak,
        leaked: sum(&profile, Totals::live_bytes),
        last_ms: 5_000,
    };
    assert_eq!(replayed(&rendered(&profile, &Options::default())), expected);
    // The end is the peak.
    let end = Replayed { peak: expected.leaked, ..expected };
    assert_eq!(replayed(&rendered(&full(), &Options::default())), end);
    assert_eq!(
        replayed(&rendered(&empty(), &Options::default())),
        Replayed { last_ms: 5_000, ..Replayed::default() }
    );
}

#[test]
fn what_comes_and_goes_is_never_more_than_the_peak_if_that_can_be() {
    let mut profile = full();
    for site in &mut profile.sites {
        site.totals = Totals::default();
    }
    let totals = Totals {
        alloc_bytes: 10_000,
        alloc_count: 10,
        free_bytes: 9_000,
        free_count: 9,
        ..Totals::default()
    };
    profile.sites.truncate(1);
    profile.sites[0].totals = totals;
    profile.processes.truncate(1);
    profile.processes[0].totals = totals;
    let of = replayed(&rendered(&profile, &Options::default()));
    assert_eq!((of.allocations, of.peak, of.leaked), (10, 1_000, 1_000));
}

#[test]
fn other_views_have_what_was_mapped_or_touched() {
    let growth = replayed(&rendered(&full(), &Options { view: View::Growth, ..Options::default() }));
    assert_eq!((growth.leaked, growth.temporary), (1_081_344 + 135_168, 0));
}

#[test]
fn of_very_many_allocations_one_stands_for_several() {
    let mut profile = full();
    for totals in [&mut profile.sites[0].totals, &mut profile.processes[0].totals] {
        totals.alloc_count = u64::MAX / 2;
        totals.free_count = u64::MAX / 2 - 10;
    }
    let mut out = Vec::new();
    render_at_most(&profile, &Options::default(), 10_000, &mut out).expect("a vector");
    let text = text(&out);
    assert!(text.contains("allocations are written as some 10,000: counts are too small"), "{text}");
    let of = replayed(&text);
    assert!(of.allocations < 11_000, "{of:?}");
    assert_eq!(of.leaked, sum(&profile, Totals::live_bytes));
}
