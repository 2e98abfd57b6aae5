//! Golden prints, made by hand.

use super::*;
use crate::{
    fixtures::profiles::{empty, full, threaded},
    model::{Change, Old, SiteId},
    report::Thresholds,
};
use heaptrace_common::function::Function;
use insta::assert_snapshot;

const TIME: i64 = 1_767_225_605_000_000_000;

fn trend(
    site: u32,
    amount: (u64, u64),
    ages_ns: (u64, u64),
    change: Option<(i64, i64)>,
    growing: u32,
) -> Trend {
    let (youngest_ns, oldest_ns) = ages_ns;
    let old = Old {
        site: SiteId(site),
        bytes: amount.0,
        count: amount.1,
        oldest_ns,
        youngest_ns,
        exited: site == 5,
        samples: None,
    };
    Trend { old, change: change.map(|(bytes, count)| Change { bytes, count }), growing }
}

fn attribution() -> &'static Attribution {
    static DEFAULT: std::sync::LazyLock<Attribution> = std::sync::LazyLock::new(Attribution::default);
    &DEFAULT
}

fn judged() -> &'static BTreeMap<SiteId, Judgement> {
    use crate::verdicts::{Reason, Verdict};
    static JUDGED: std::sync::LazyLock<BTreeMap<SiteId, Judgement>> = std::sync::LazyLock::new(|| {
        let leak = Judgement {
            verdict: Verdict::LeakLike,
            reason: Reason::NoneOfTheOldFreed,
            span_ns: 60_000_000_000,
            old_age_ns: 20_000_000_000,
            old_allocated: 41,
            old_live: 7,
            live: 10,
            allocated: 51,
            freed: 41,
            late_ns: 20_000_000_000,
            late_allocated: 13,
            late_freed: 11,
            oldest_ns: 60_000_000_000,
            bytes_per_minute: 65_537,
            knows_frees: true,
        };
        BTreeMap::from([(SiteId(0), leak)])
    });
    &JUDGED
}

static NONE: BTreeMap<SiteId, u64> = BTreeMap::new();

fn first(profile: &Profile) -> Leaks<'_> {
    Leaks {
        profile,
        number: 1,
        last: false,
        time_ns: TIME,
        older_than_ns: 10_000_000_000,
        shown: &[],
        hidden: &[],
        stacks: &NONE,
        judged: judged(),
        younger: Amount::default(),
        exited: Amount::default(),
        removed: Amount::default(),
        gone: Amount::default(),
        ignored: None,
        verbose: false,
        frames: attribution(),
    }
}

fn rendered(format: PrintFormat, leaks: &Leaks<'_>) -> String {
    let mut out = Vec::new();
    render(format, leaks, &mut out).expect("writing to memory");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn the_first_print_explains_itself_and_tells_when_there_is_nothing() {
    let mut profile = empty();
    profile.duration_ns = 5_000_000_000;
    let younger = Amount { bytes: 1_003, count: 1 };
    assert_snapshot!(rendered(PrintFormat::Text, &Leaks { younger, ..first(&profile) }));
}

fn shown() -> Vec<Trend> {
    vec![
        trend(0, (800_000, 10), (10_200_000_000, 95_000_000_000), Some((400_001, 5)), 3),
        trend(3, (77_777, 3), (11_000_000_000, 11_000_000_000), Some((0, 0)), 0),
        trend(2, (5, 1), (20_000_000_000, 20_000_000_000), Some((-1_001, -1)), 0),
        trend(5, (1_111, 1), (20_000_000_000, 20_000_000_000), Some((1_111, 1)), 1),
    ]
}

fn later<'a>(profile: &'a Profile, shown: &'a [Trend]) -> Leaks<'a> {
    Leaks {
        number: 7,
        shown: &shown[..3],
        hidden: &shown[3..],
        younger: Amount { bytes: 12_345, count: 67 },
        exited: Amount { bytes: 99, count: 2 },
        removed: Amount { bytes: 11, count: 1 },
        gone: Amount { bytes: 29, count: 2 },
        ..first(profile)
    }
}

#[test]
fn later_prints_tell_growth_and_what_is_not_shown() {
    assert_snapshot!(rendered(PrintFormat::Text, &later(&full(), &shown())));
}

#[test]
fn threads_are_rows_of_their_own_with_their_names() {
    let profile = threaded();
    let twin = profile.sites.len() as u32 - 1;
    let trends = vec![trend(0, (70, 2), (5, 9), None, 0), trend(twin, (90, 3), (3, 7), None, 0)];
    let merged = merge(trends.clone(), &BTreeMap::new(), &profile, attribution());
    assert_eq!((merged.trends.len(), merged.stacks.len()), (2, 0));
    let print = Leaks { shown: &merged.trends, ..first(&profile) };
    let text = rendered(PrintFormat::Text, &print);
    assert!(
        text.contains(" in app:42, thread done (44), called from\n")
            && text.contains(" in app:42, thread app (42), called from\n"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&rendered(PrintFormat::Json, &print)).expect("JSON");
    let of = |row: usize| (json["rows"][row]["thread"]["tid"].as_u64(), json["rows"][row]["bytes"].as_u64());
    assert_eq!((of(0), of(1)), ((Some(44), Some(90)), (Some(42), Some(70))));
    // Where they are not told apart, nothing is said of them.
    let one = Profile { by_thread: false, threads: Vec::new(), ..full() };
    let text = rendered(PrintFormat::Json, &Leaks { shown: &trends[..1], ..first(&one) });
    assert!(!text.contains("\"thread\""), "{text}");
}

#[test]
fn raw_numbers_are_whole() {
    let raw = || rendered(PrintFormat::Text, &later(&full(), &shown()));
    assert_snapshot!(crate::units::Numbers::Raw.within(raw));
}

#[test]
fn rows_that_read_the_same_are_one_and_are_judged_together() {
    use crate::model::{COHORTS, Cohort, Cohorts};
    let (profile, trends) = (
        full(),
        vec![
            trend(0, (70, 2), (5, 9), Some((10, 1)), 1),
            trend(1, (90, 3), (3, 7), Some((-4, 2)), 0),
            trend(2, (1, 1), (1, 1), None, 0),
        ],
    );
    // Of each of the first two too few blocks stay to be judged by.
    let one = |number: usize| Cohort {
        allocated: 10,
        freed: 9,
        held_bytes: 1_000,
        live: u64::from(number.is_multiple_of(2)),
        live_bytes: 500,
    };
    let of = |shift: usize| Cohorts {
        span_ns: 60_000_000_000,
        parts: (0..COHORTS).map(|at| one(at + shift)).collect(),
    };
    let cohorts = BTreeMap::from([(SiteId(0), of(0)), (SiteId(1), of(1))]);
    let frames = Attribution::new(false, Some("buffer::*\nload"), false).expect("patterns");
    let Merged { trends: merged, judged, stacks } = merge(trends.clone(), &cohorts, &profile, &frames);
    assert_eq!((merged.len(), stacks), (2, BTreeMap::from([(SiteId(1), 2)])));
    let row = merged[0];
    assert_eq!((row.old.site, row.old.bytes, row.old.count), (SiteId(1), 160, 5));
    assert_eq!((row.old.youngest_ns, row.old.oldest_ns, row.growing), (3, 9, 1));
    assert_eq!(row.change, Some(Change { bytes: 6, count: 3 }));
    assert_eq!(judged[&SiteId(1)].allocated, 480);
    let apart = merge(trends, &cohorts, &profile, &Attribution::raw());
    assert_eq!((apart.trends.len(), apart.stacks.len()), (3, 0));
}

#[test]
fn what_was_judged_before_is_counted_and_what_is_too_much_names_its_sites() {
    let (profile, mut trends) = (full(), shown());
    let mut known = crate::attribution::Suppressions::default();
    known.add("x.supp".as_ref(), "leak:libfoo").expect("good");
    let ignored = ignore(&mut trends, &profile, &known);
    assert_eq!((trends.len(), ignored.stacks, ignored.amount), (3, 1, Amount { bytes: 77_777, count: 3 }));
    let print = Leaks { ignored: Some(&ignored), ..later(&profile, &trends) };
    let text = rendered(PrintFormat::Text, &print);
    assert!(
        text.contains(
            "# not shown, ignored (--ignore): 77,777 bytes in 3 blocks of 1 stack\n\
             #   x.supp:1 leak:libfoo: 77,777 bytes in 3 blocks of 1 stack\n"
        ),
        "{text}"
    );
    let json = rendered(PrintFormat::Json, &print);
    let by = r#"[{"file":"x.supp","line":1,"name":"leak:libfoo","stacks":1,"bytes":77777,"count":3}]"#;
    assert!(
        json.contains(&format!(r#""ignored":{{"stacks":1,"bytes":77777,"count":3,"by":{by}}}"#)),
        "{json}"
    );

    let merged = Merged { trends: trends.clone(), judged: print.judged.clone(), ..Merged::default() };
    let crossed = |thresholds| crossed(&profile, &Attribution::default(), &merged, thresholds);
    let above = |most| crossed(Thresholds { above: Some(most), ..Thresholds::default() });
    assert!(above(801_116).is_empty());
    assert_eq!(
        above(801_115),
        [
            "801,116 bytes in 12 blocks, more than 801,115 (--fail-above)",
            "  buffer::grow buffer.rs:31 (inlined) in app:42: 800,000 bytes in 10 blocks",
            "  [unmapped] 0xdead in odd; name:43: 1,111 bytes in 1 block",
            "  buffer::grow buffer.rs:35 (inlined) in app:42: 5 bytes in 1 block",
        ]
    );
    let thresholds = Thresholds { leak_like: true, ..Thresholds::default() };
    let leaks = crossed(thresholds);
    assert_eq!(leaks.len(), 1, "{leaks:?}");
    assert!(
        leaks[0].starts_with("buffer::grow buffer.rs:31 (inlined) in app:42: LEAK-LIKE: 7 of 41 blocks"),
        "{leaks:?}"
    );
    let open = (trends.len() - print.judged.len()) as u64;
    let said = undecided(&merged, thresholds).expect("some were not judged");
    assert!(said.starts_with(&format!("--fail-on: {open} of 3 rows could not be judged")), "{said}");
    assert_eq!(undecided(&merged, Thresholds::default()), None);
}

#[test]
fn the_last_print_has_the_footer_and_processes_that_exited() {
    let (profile, shown) = (full(), shown());
    let leaks = Leaks { last: true, shown: &shown[3..], hidden: &[], ..later(&profile, &shown) };
    let text = rendered(PrintFormat::Text, &leaks);
    assert!(text.contains("malloc in odd; name:43, which has exited, called from"), "{text}");
    assert!(
        text.contains("# Coverage:\n#   exact mode") && text.contains("lost 10 (live_map_full"),
        "{text}"
    );
}

#[test]
fn a_print_in_json_is_one_line() {
    let text = rendered(PrintFormat::Json, &later(&full(), &shown()));
    assert_eq!(text.matches('\n').count(), 1);
    // Checked as text, because the order of the keys counts; indented, because people read the snapshot.
    assert_snapshot!(text.replace(",{", ",\n{").replace(":[{", ":[\n{").replace(":{", ":\n{"));
}

/// As of `growth` or `faults`: the sites that it has are then of growth.
fn of_memory(mode: Mode) -> Profile {
    let mut profile = full();
    profile.mode = mode;
    profile.growth = std::mem::take(&mut profile.sites);
    let function = if mode == Mode::Faults { Function::PageFault } else { Function::Mmap };
    profile.growth.iter_mut().for_each(|site| site.function = function);
    profile
}

#[test]
fn memory_is_told_of_in_ranges_and_in_pages() {
    let shown = shown();
    for (mode, name) in [(Mode::Growth, "mapped"), (Mode::Faults, "touched")] {
        let profile = of_memory(mode);
        let none = Amount::default();
        // It has no blocks to be judged by.
        let judged = BTreeMap::new();
        let print =
            Leaks { number: 1, removed: none, gone: none, judged: &judged, ..later(&profile, &shown) };
        let text = rendered(PrintFormat::Text, &print);
        let nothing = rendered(PrintFormat::Text, &Leaks { number: 2, ..first(&profile) });
        assert_snapshot!(name, format!("{text}{nothing}"));
        let last = Leaks { last: true, ..print };
        let json = rendered(PrintFormat::Json, &Leaks { hidden: &[], shown: &shown, ..last });
        let exact = json.matches("\"is_exact\":true").count();
        assert_eq!(exact, if mode == Mode::Faults { 3 } else { 4 }, "{json}");
    }
}
