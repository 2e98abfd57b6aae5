//! Golden files of every format (`INSTA_UPDATE=always cargo test` rewrites them), and what must hold of any.

use super::*;
use crate::fixtures::profiles::{empty, full, large, sampled, threaded};
use crate::model::{Amount, Note, Part, PartKind, Process, Profile, Totals};
use heaptrace_common::sizes::SIZE_CLASSES;
use insta::assert_snapshot;

fn rendered(format: Format, profile: &Profile, options: Options) -> String {
    let mut out = Vec::new();
    render(format, profile, &options, &mut out).expect("writing to memory");
    String::from_utf8(out).expect("UTF-8")
}

fn text(profile: &Profile, options: Options) -> String {
    rendered(Format::Text, profile, options)
}

fn by(by: By) -> Options {
    Options { by, ..Options::default() }
}

fn view(view: View) -> Options {
    Options { view, ..Options::default() }
}

/// The `Percent` column.
fn percentages(report: &str) -> Vec<f64> {
    report
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains('|') && !line.contains("--"))
        .filter_map(|line| line.trim_start().split_once('%')?.0.parse().ok())
        .collect()
}

#[test]
fn live_by_stack() {
    assert_snapshot!(text(&full(), Options::default()));
}

#[test]
fn alloc_by_stack() {
    assert_snapshot!(text(&full(), view(View::Alloc)));
}

#[test]
fn raw_numbers_are_whole() {
    let raw = |of: &dyn Fn() -> String| crate::units::Numbers::Raw.within(of);
    assert_snapshot!("live_by_stack_raw", raw(&|| text(&full(), Options::default())));
    for view in [View::Leaks, View::Alloc, View::Churn, View::Sizes, View::Growth, View::Rss] {
        let of =
            |profile: &Profile| text(profile, Options { hints: true, verbose: true, ..self::view(view) });
        for profile in [full(), sampled(true)] {
            let found = raw(&|| of(&profile));
            let scaled = |word: &str| {
                let digits =
                    |part: &str| part.len() >= 3 && part.as_bytes()[..3].iter().all(u8::is_ascii_digit);
                ["KiB", "MiB", "GiB", "min"].contains(&word) || word.split(',').skip(1).any(digits)
            };
            let words = found.split(|of: char| of.is_whitespace() || "();:/".contains(of));
            let scaled: Vec<&str> = words.filter(|word| scaled(word)).collect();
            assert!(scaled.is_empty(), "{view:?}: {scaled:?} in\n{found}");
        }
    }
}

#[test]
fn live_by_site() {
    assert_snapshot!(text(&full(), by(By::Site)));
}

#[test]
fn live_by_function() {
    assert_snapshot!(text(&full(), by(By::Function)));
}

/// [`full`], with names as C++ has them: inner frames of two stacks differ, and all else is one.
fn wrapped() -> Profile {
    let mut profile = full();
    let names = [
        "operator new(unsigned long)",
        "void std::vector<Item, Pool<Item, 4096> >::_M_realloc_insert<Item>(Item&&)",
    ];
    for (location, name) in [0, 7].into_iter().zip(names) {
        profile.symbols[location][0].name = name.into();
        profile.symbols[location][1].name = "Table<Item, Pool<Item, 4096> >::add(Item)".into();
        profile.symbols[location][1].line = Some(7);
    }
    profile
}

#[test]
fn the_site_is_the_first_frame_that_is_the_users() {
    let site = |by, frames| {
        text(&wrapped(), Options { by, frames, pid: Some(42), limit: 200, ..Options::default() })
    };
    assert_snapshot!("folded_by_stack", site(By::Stack, Attribution::default()));
    let raw = site(By::Site, Attribution::raw());
    assert!(
        raw.contains("operator new(unsigned long) buffer.rs:31") && !raw.contains("--raw-frames"),
        "{raw}"
    );
    assert!(raw.contains("std::vector<Item, Pool<Item, 4096> >::_M_realloc_insert"), "{raw}");
    let more = Attribution::new(false, Some("Table::*\nlibfoo.so.1+*"), false).expect("patterns");
    let hidden = site(By::Module, more);
    assert!(!hidden.contains("libfoo") && hidden.contains("/usr/bin/app"), "{hidden}");
}

#[test]
fn samples_are_shown_with_what_they_may_be_off() {
    assert_snapshot!("sampled_live", text(&sampled(false), by(By::Site)));
    assert_snapshot!("sampled_alloc", text(&sampled(true), Options { view: View::Alloc, ..by(By::Site) }));
}

#[test]
fn live_by_module() {
    assert_snapshot!(text(&full(), by(By::Module)));
}

#[test]
fn alloc_by_process() {
    assert_snapshot!(text(&full(), Options { view: View::Alloc, by: By::Process, ..Options::default() }));
}

#[test]
fn live_by_thread() {
    assert_snapshot!(text(&threaded(), by(By::Thread)));
}

#[test]
fn threads_of_one_stack_are_one_where_rows_are_of_code() {
    let stacks = |profile: &Profile| text(profile, Options::default()).matches("buffer::grow").count();
    assert_eq!(stacks(&threaded()), stacks(&full()));
    let json = rendered(Format::Json, &threaded(), Options::default());
    assert_eq!(json.matches("\"thread\":{\"tid\":44,\"name\":\"pool; 1\"}").count(), 2);
    assert!(!rendered(Format::Json, &full(), Options::default()).contains("\"thread\""));
}

#[test]
fn why_nothing_is_shown_of_a_part_or_beside_what_is_ignored_is_said() {
    let mut profile = full();
    (profile.sites, profile.growth) = (Vec::new(), Vec::new());
    profile.processes.iter_mut().for_each(|process| process.totals = Totals::default());
    let part = |kind| Part { kind, from_ns: 1, to_ns: 2, whole_ns: 3, saved: 4 };
    let said = |profile: &Profile, options| {
        let text = text(profile, options);
        text.lines().find(|line| line.starts_with("Nothing")).expect("why").to_owned()
    };
    assert_eq!(said(&profile, Options::default()), "Nothing to show: no block was allocated while tracing.");
    profile.part = Some(part(PartKind::Span { shrank: Amount::default() }));
    assert_eq!(
        said(&profile, view(View::Alloc)),
        "Nothing to show: no block was allocated in this span of the recording, between two saved states."
    );
    profile.part = Some(part(PartKind::Moment));
    assert_eq!(
        said(&profile, view(View::Growth)),
        "Nothing to show: no memory was mapped before this state was saved."
    );
    let mut ignored = Ignored::default();
    ignored.stacks = 1;
    let options = Options { ignored: Some(ignored), ..Options::default() };
    assert_eq!(
        said(&profile, options),
        "Nothing to show beside what is ignored (--ignore), which is said below."
    );
}

#[test]
fn sizes() {
    assert_snapshot!(text(&full(), view(View::Sizes)));
}

#[test]
fn the_largest_sizes_have_no_upper_end() {
    let mut profile = full();
    profile.sites[0].sizes.0.resize(SIZE_CLASSES, 0);
    profile.sites[0].sizes.0[SIZE_CLASSES - 1] = 3;
    let report = text(&profile, view(View::Sizes));
    assert!(report.contains("1,073,741,824 or more"), "{report}");
    let options = Options { view: View::Alloc, ..Options::default() };
    let json = rendered(Format::Json, &profile, options).replace(char::is_whitespace, "");
    assert!(json.contains("[1073741824,null,3]"), "{json}");
}

#[test]
fn faults_are_a_view_of_their_own() {
    assert_snapshot!(text(&full(), view(View::Faults)));
    let nothing = text(&empty(), view(View::Faults));
    assert!(nothing.contains("`record --faults` traces them"), "{nothing}");
}

#[test]
fn rss_by_process() {
    assert_snapshot!(text(&full(), view(View::Rss)));
}

#[test]
fn processes_without_a_measurement_are_named_in_the_rss_view() {
    let mut profile = full();
    profile.residency.remove(&crate::model::ProcessId(0));
    let report = text(&profile, view(View::Rss));
    assert!(report.contains("# Not measured: app:42 (ended too soon"), "{report}");
    profile.residency.clear();
    let report = text(&profile, view(View::Rss));
    assert!(report.contains("# Total: 0 bytes (0 B) resident in 0 processes"), "{report}");
    assert!(report.contains("# Not measured: app:42, odd; name:43 ("), "{report}");
    assert!(text(&empty(), view(View::Rss)).contains("no process was traced"));
    // Of another PID there is nothing to tell.
    let none = text(&full(), Options { pid: Some(7), ..view(View::Rss) });
    assert!(none.contains("PID 7 is not in this recording"), "{none}");
    let small = text(&full(), Options { min_bytes: 1 << 40, ..view(View::Rss) });
    assert!(small.contains("2 processes below 1,099,511,627,776 bytes not shown"), "{small}");
}

#[test]
fn growth_is_a_view_of_its_own() {
    assert_snapshot!(text(&full(), view(View::Growth)));
}

/// What is known of blocks alone is not told of it: neither a peak, nor failures, nor what is live.
#[test]
fn growth_by_process_has_nothing_of_blocks() {
    let options = Options { view: View::Growth, ..by(By::Process) };
    assert_snapshot!(text(&full(), options.clone()));
    let json: serde_json::Value =
        serde_json::from_str(&rendered(Format::Json, &full(), options)).expect("JSON");
    let sites = json["sites"].as_array().expect("sites");
    assert!(!sites.is_empty());
    for site in sites {
        assert!(site["alloc_bytes"].as_u64() > Some(0), "{site}");
        for key in ["live_bytes", "live_count", "free_bytes", "free_count"] {
            assert!(site[key].is_null(), "{site}");
        }
    }
}

#[test]
fn one_pid_with_small_rows_hidden() {
    assert_snapshot!(text(&full(), Options { pid: Some(42), min_bytes: 50, ..Options::default() }));
}

#[test]
fn folded_live() {
    assert_snapshot!(rendered(Format::Folded, &full(), Options::default()));
}

#[test]
fn folded_alloc() {
    assert_snapshot!(rendered(Format::Folded, &full(), view(View::Alloc)));
}

#[test]
fn inverted_stacks_are_the_same_from_the_other_end() {
    let lines = |inverted| {
        let report = rendered(Format::Folded, &full(), Options { inverted, ..Options::default() });
        let mut lines: Vec<(Vec<String>, String)> = report
            .lines()
            .map(|line| {
                let (stack, bytes) = line.rsplit_once(' ').expect("bytes");
                (stack.split(';').map(str::to_owned).collect(), bytes.to_owned())
            })
            .collect();
        if inverted {
            // But the process is first.
            lines.iter_mut().for_each(|(stack, _)| stack[1..].reverse());
        }
        lines.sort();
        lines
    };
    assert_eq!(lines(true), lines(false));
    let report = rendered(Format::Folded, &full(), Options { inverted: true, ..Options::default() });
    assert!(report.contains("app:42;buffer::grow;buffer::parse;"), "{report}");
    let graph = rendered(Format::Svg, &full(), Options { inverted: true, ..Options::default() });
    assert!(graph.contains("heaptrace: live heap bytes, by the function that called the allocator"));
}

#[test]
fn json() {
    let text = rendered(Format::Json, &full(), Options::default());
    // Checked as text, because the order of the keys counts; indented, because people read the
    // snapshot.
    assert_snapshot!(indented(&text));
}

/// JSON `text` with a line for each object, in unchanged order.
fn indented(text: &str) -> String {
    text.replace(",{", ",\n{").replace(":[{", ":[\n{").replace(":{", ":\n{")
}

#[test]
fn empty_profiles_say_why() {
    let mut nothing_called = empty();
    nothing_called.processes =
        vec![crate::model::Process { pid: 5, comm: "idle".into(), ..Default::default() }];
    let mut all_freed = full();
    all_freed.sites.truncate(0);
    for process in &mut all_freed.processes {
        process.totals.free_bytes = process.totals.alloc_bytes;
        process.totals.free_count = process.totals.alloc_count;
    }
    let mut refused = empty();
    refused.coverage.untraceable = full().coverage.untraceable;
    let reports = [
        text(&empty(), Options::default()),
        text(&nothing_called, Options::default()),
        text(&all_freed, Options::default()),
        text(&refused, Options::default()),
        text(&full(), Options { pid: Some(7), ..Options::default() }),
    ];
    assert_snapshot!(reports.join("\n=====\n"));
}

#[test]
fn percentages_of_rows_add_up_to_the_whole() {
    for view in [View::Live, View::Alloc] {
        for by in [By::Stack, By::Site, By::Module, By::Process] {
            let shares = percentages(&text(&full(), Options { view, by, ..Options::default() }));
            let sum: f64 = shares.iter().sum();
            assert!(
                !shares.is_empty() && (sum - 100.0).abs() < 0.01 * shares.len() as f64,
                "{view:?} {by:?}: {sum}"
            );
        }
    }
}

#[test]
fn each_process_is_told_of_on_demand() {
    let report = text(&full(), Options { verbose: true, ..Options::default() });
    let of_one = "odd; name:43: followed from its parent, probes 1.250 ms late: all of them were there for 75.00% of the time";
    assert!(report.contains(of_one), "{report}");
    assert!(!text(&full(), Options::default()).contains(of_one));
}

#[test]
fn there_are_losses_where_a_fact_makes_numbers_incomplete() {
    let mut profile = empty();
    profile.coverage.notes.take(Note::GrowthOff);
    assert!(text(&profile, Options::default()).contains("#   no losses\n#   brk and mmap were not traced"));
    let unseen = Note::EndedUnseen { pid: 7, comm: "x".into(), files: vec!["/lib/a".into()], opened: false };
    profile.coverage.notes.take(unseen);
    let report = text(&profile, Options::default());
    assert!(
        !report.contains("no losses") && report.contains("#   x:7: it ended before it could be"),
        "{report}"
    );
}

#[test]
fn a_filter_by_size_is_told_and_what_it_makes_uncertain() {
    let mut profile = full();
    profile.processes[0].filtered_bytes = 3 << 20;
    profile.processes[0].filtered_count = 1_000;
    let filtered = |min, max| {
        let mut profile = profile.clone();
        profile.coverage.size_filter = Some(crate::model::SizeFilter { min, max });
        text(&profile, Options::default())
    };
    for (min, max, sizes) in [
        (4096, u64::MAX, "of 4,096 bytes and more"),
        (0, 100, "of up to 100 bytes"),
        (1, 100, "of 1 to 100 bytes"),
    ] {
        let report = filtered(min, max);
        let line = format!("only blocks {sizes} were traced: 1,000 blocks (3.0 MiB) filtered, in no total");
        assert!(report.contains(&line), "{report}");
        assert!(
            report.contains("4 frees of unknown blocks: allocated before tracing began, or filtered by size")
        );
    }
    assert!(!text(&profile, Options::default()).contains("filtered"));
}

#[test]
fn what_a_child_frees_may_be_inherited_where_its_parent_was_attached_to() {
    let mut profile = full();
    let child = &mut profile.processes[1];
    (child.attach_gap_ns, child.unknown_frees) = (None, 3);
    profile.coverage.unknown_frees = 7;
    let report = text(&profile, Options::default());
    for line in [
        "3 frees of unknown blocks in forked children: allocated before tracing began, or inherited and freed by the \
         parent since, or without room in the table of live blocks, which cannot be told apart",
        "4 frees of unknown blocks: allocated before tracing began, or without room in the table",
    ] {
        assert!(report.contains(line), "{line:?} is not in {report}");
    }
}

#[test]
fn a_child_that_ended_before_its_probes_came_is_not_said_to_have_got_them() {
    let mut profile = full();
    let child = &mut profile.processes[1];
    (child.attached_ns, child.attach_gap_ns) = (0, Some(child.life_ns));
    // It has blocks: of one of its allocators the calls were seen.
    let report = text(&profile, Options::default());
    let line = "1 process was without some of its probes for 5.00 ms: odd; name";
    assert!(report.contains(line) && !report.contains("after the fork"), "{report}");
    profile.processes[1].totals = Totals::default();
    let report = text(&profile, Options::default());
    let line = "1 process had none of its probes before it or tracing ended, and its blocks are in no total: odd; name";
    assert!(report.contains(line) && !report.contains("without some"), "{report}");
}

#[test]
fn what_was_seen_and_not_sampled_is_not_said_never_to_have_been() {
    let mut profile = empty();
    profile.processes =
        vec![Process { seen_count: 46, totals: Totals::default(), ..full().processes[0].clone() }];
    let report = text(&profile, Options::default());
    assert!(report.contains("Nothing to show: of 46 allocations seen none was sampled."), "{report}");
}

#[test]
fn branches_of_a_call_tree_add_up_to_their_row() {
    // One row, whose branches fork no further: 200 callers, most of them below the share that is drawn.
    let mut profile = large(200, 3);
    for (n, stack) in profile.stacks.iter_mut().enumerate() {
        stack.frames = vec![crate::model::FrameId(0), crate::model::FrameId(100 + n as u32)];
    }
    profile.sites[0].totals.alloc_bytes = 1_000_003;
    // By its shape it passes allocations on.
    let report = text(&profile, Options { frames: Attribution::raw(), ..Options::default() });
    let shares: Vec<f64> = report
        .lines()
        .filter_map(|line| line.split_once("--")?.1.split_once("%--")?.0.parse().ok())
        .collect();
    let sum: f64 = shares.iter().sum();
    assert!((sum - 100.0).abs() < 0.01 * shares.len() as f64, "{sum}: {report}");
    assert!(report.contains(" smaller branches]"), "{report}");
    assert!(shares.len() < 100, "small branches are summed up");
}

#[test]
fn folded_lines_sum_to_the_total_and_have_one_number_each() {
    let report = rendered(Format::Folded, &full(), Options::default());
    let sum: u64 = report
        .lines()
        .map(|line| line.rsplit_once(' ').expect("number").1.parse::<u64>().expect("number"))
        .sum();
    let live: u64 = full().processes.iter().map(|process| process.totals.live_bytes()).sum();
    assert_eq!(sum, live);
    let mut sorted: Vec<_> = report.lines().map(|line| line.rsplit_once(' ').expect("number").0).collect();
    let count = sorted.len();
    sorted.dedup();
    assert!(sorted.is_sorted() && sorted.len() == count);
}

#[test]
fn rows_that_min_bytes_hides_are_accounted_for() {
    let report = text(&full(), Options { min_bytes: 1_000_000_000, ..Options::default() });
    let total = crate::units::thousands(full().processes.iter().map(|p| p.totals.live_bytes()).sum());
    assert!(report.contains(&format!("not shown: {total} bytes in ")), "{report}");
    assert!(percentages(&report).is_empty(), "{report}");
}

#[test]
fn the_flame_graph_names_frames_bytes_and_losses() {
    let svg = rendered(Format::Svg, &full(), Options::default());
    for part in [
        "heaptrace: live heap bytes",
        "buffer::grow (820,005 bytes",
        "app:42",
        "odd: name:43",
        "libfoo.so.1+0x1234",
        "lost 10 (live_map_full",
        "the recorder did not finish",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert_eq!(svg, rendered(Format::Svg, &full(), Options::default()));
}

#[test]
fn an_empty_flame_graph_says_why_and_is_escaped() {
    let mut profile = empty();
    profile.coverage.untraceable = full().coverage.untraceable;
    profile.coverage.untraceable[0].reason = "a < b & c".into();
    let svg = rendered(Format::Svg, &profile, Options::default());
    assert!(
        svg.starts_with("<?xml") && svg.contains("no process was traced") && svg.contains("a &lt; b &amp; c")
    );
}

#[test]
fn names_cannot_break_lines_or_reach_the_terminal() {
    let mut profile = full();
    profile.processes[0].comm = "a\n\u{1b}[31mb".into();
    profile.symbols[1][0].name = "evil\r\n100.00%".into();
    profile.modules[1].path = "/tmp/\u{7}x".into();
    for format in [Format::Text, Format::Folded] {
        let report = rendered(format, &profile, view(View::Alloc));
        assert!(!report.contains(['\u{1b}', '\r', '\u{7}']), "{report}");
    }
}

#[test]
fn counters_at_their_limit_do_not_overflow() {
    let mut profile = full();
    for site in &mut profile.sites {
        site.totals.alloc_bytes = u64::MAX;
        site.totals.alloc_count = u64::MAX;
        site.sizes.0 = vec![u64::MAX; 65];
    }
    for process in &mut profile.processes {
        process.totals.alloc_bytes = u64::MAX;
    }
    for format in [Format::Text, Format::Folded, Format::Json] {
        for view in [View::Live, View::Alloc, View::Sizes] {
            assert!(!rendered(format, &profile, Options { view, ..Options::default() }).is_empty());
        }
    }
}

#[test]
fn a_large_profile_is_rendered_in_linear_time() {
    // A limit for what never ends, not for what is slow: in a debug build linear work takes seconds, quadratic work hours.
    let profile = large(20_000, 30);
    for format in [Format::Text, Format::Folded, Format::Json] {
        let before = std::time::Instant::now();
        let report = rendered(format, &profile, Options::default());
        let took = before.elapsed();
        eprintln!("{format:?}: {took:?} for {} bytes", report.len());
        assert!(took.as_secs() < 300, "{format:?}: {took:?}");
    }
}

#[test]
fn who_was_paused_is_told_apart_from_who_was_never_traced() {
    let mut profile = full();
    let new = |comm: &str, attached_ns| Process {
        comm: comm.into(),
        life_ns: 1_000,
        attached_ns,
        paused_ns: 1_000 - attached_ns,
        ..Process::default()
    };
    let before = profile.processes.len();
    profile.processes.extend([new("light", 1_000), new("half", 500), new("rest", 0), new("rest", 0)]);
    let losses = losses(&profile);
    for said in [
        "1 process was traced for 50.0% of its time, and what it allocated meanwhile is in no total: half",
        "2 processes were paused all the time, and are in no total: rest",
    ] {
        assert!(losses.iter().any(|loss| loss == said), "{said:?} is not in {losses:#?}");
    }
    profile.processes.truncate(before);
    profile.processes.extend([new("half", 500), new("tenth", 100)]);
    let said = "2 processes were traced for 10.0% to 50.0% of their time, and what they allocated meanwhile is in no total: half, tenth";
    assert!(super::losses(&profile).iter().any(|loss| loss == said), "{:#?}", super::losses(&profile));
    let report = text(&profile, Options { verbose: true, ..Options::default() });
    assert!(report.contains("half:0: paused for 0.000 s, traced for 50.00% of the time"), "{report}");
}
