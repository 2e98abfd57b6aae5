//! Tests of the whole page: its data, as the scripts find it.

use super::*;
use crate::fixtures::profiles::{empty, full, large, sampled};
use crate::model::{Amount, COHORTS, Cohort, Cohorts, History, Moment, SiteId, Stills};
use crate::report::View;
use insta::assert_snapshot;
use serde_json::Value;

fn rendered(profile: &Profile, options: &Options) -> String {
    let mut out = Vec::new();
    render(profile, options, &mut out).expect("a vector");
    String::from_utf8(out).expect("UTF-8")
}

/// The pieces of data, each with its name.
fn pieces(page: &str) -> Vec<(String, Value)> {
    const BEGIN: &str = "<script type=\"application/json\" data-name=\"";
    let pieces = page.split(BEGIN).skip(1).map(|piece| {
        let (name, rest) = piece.split_once("\">").expect("a name");
        let (json, _) = rest.split_once("</script>").expect("an end");
        (name.to_owned(), serde_json::from_str(json).expect("JSON"))
    });
    pieces.collect()
}

fn piece(page: &str, name: &str) -> Value {
    pieces(page).into_iter().find(|(of, _)| of == name).map(|(_, piece)| piece).expect("a piece")
}

/// Half of the first site was allocated when it was saved first.
fn with_history() -> Profile {
    let mut profile = full();
    let mut before = profile.clone();
    before.duration_ns = 2_000_000_000;
    before.sites[0].totals.alloc_bytes -= 400_000;
    before.processes[0].totals.alloc_bytes -= 400_000;
    let mut stills = Stills::new(2, None, &[], profile.sites.len());
    stills.take(&before);
    stills.take(&profile);
    let at = |at_ns, bytes, rss_bytes| Moment {
        at_ns,
        live: Amount { bytes, count: 7 },
        allocated: Amount { bytes: bytes + 1, count: 8 },
        rss_bytes,
    };
    let moments = vec![at(0, 0, 0), at(2_000_000_000, 551_161, 4_096_000), at(5_000_000_000, 951_161, 0)];
    profile.history = Some(History { saved: 2, moments, peak: None, stills: stills.taken() });
    profile
}

#[test]
fn the_data_is_a_tree_of_calls_with_stacks_and_what_changed_over_time() {
    let page = rendered(&with_history(), &Options::default());
    // What the JSON report has, too, is looked at there.
    const ELSEWHERE: [&str; 3] = ["coverage", "processes", "host"];
    let lines = pieces(&page).into_iter().map(|(name, mut piece)| {
        if let Some(profile) = piece.as_object_mut().filter(|_| name == "profile") {
            ELSEWHERE.iter().for_each(|key| assert!(profile.remove(*key).is_some(), "{key}"));
        }
        let texts = piece.as_object().map(|of| of.iter().map(|(key, value)| format!("  {key}: {value}\n")));
        format!("{name}\n{}", texts.map_or_else(|| format!("  {piece}\n"), Iterator::collect))
    });
    assert_snapshot!(lines.collect::<String>());
}

#[test]
fn sums_are_those_of_the_json_report() {
    let page = rendered(&full(), &Options::default());
    let (stacks, profile) = (piece(&page, "stacks"), piece(&page, "profile"));
    let sum = |of: &Value| -> u64 { of.as_array().expect("a column").iter().filter_map(Value::as_u64).sum() };
    let processes = profile["processes"].as_array().expect("processes");
    for (unit, key, of) in [
        ("bytes", "live", "live_bytes"),
        ("count", "live", "live_count"),
        ("bytes", "alloc", "alloc_bytes"),
        ("count", "alloc", "alloc_count"),
    ] {
        let expected: u64 = processes.iter().filter_map(|process| process[of].as_u64()).sum();
        assert_eq!(sum(&stacks[unit][key]), expected, "{of}");
    }
    assert_eq!(profile["measures"][1]["bytes"], sum(&stacks["bytes"]["live"]));
}

#[test]
fn a_page_of_one_process_has_no_other() {
    let page = rendered(&full(), &Options { pid: Some(43), ..Options::default() });
    let profile = piece(&page, "profile");
    assert_eq!(profile["process_names"], serde_json::json!(["odd; name:43"]));
    let stacks = piece(&page, "stacks");
    assert!(stacks["process"].as_array().expect("a column").iter().all(|process| *process == 0), "{stacks}");
    assert!(!page.contains("buffer::grow"));
}

#[test]
fn estimates_and_bounds_are_told_and_sizes_of_samples_are_not_shown() {
    let page = rendered(&sampled(false), &Options::default());
    let (profile, stacks) = (piece(&page, "profile"), piece(&page, "stacks"));
    assert_eq!(profile["measures"][1]["bytes_title"], "live bytes, at most, estimated from samples");
    assert_eq!((&profile["live_is_bound"], &profile["sizes"]), (&Value::Bool(true), &Value::Null));
    let within = |at: usize| stacks["low"][at].as_u64() <= stacks["high"][at].as_u64();
    let columns = ["low", "high"].map(|name| stacks[name].as_array().expect("a column").len());
    assert!(columns[0] > 0 && columns[0] == columns[1] && (0..columns[0]).all(within), "{stacks}");
    let losses = profile["losses"].to_string();
    assert!(losses.contains("traced for"), "a pause is none of the losses: {losses}");
}

#[test]
fn what_is_not_shown_is_told_and_totals_are_of_all() {
    let page = rendered(&full(), &Options { min_bytes: 80_000, ..Options::default() });
    let profile = piece(&page, "profile");
    let hidden = profile["hidden"].as_str().expect("what is hidden");
    assert!(hidden.starts_with("10 smaller stacks not shown: 151,161 bytes live in 21 blocks"), "{hidden}");
    assert_eq!(profile["measures"][1]["bytes"], 951_161);
}

#[test]
fn verdicts_are_those_of_the_json_report_with_evidence_where_it_grows() {
    let mut profile = full();
    let grows = Cohort { allocated: 10, live: 10, live_bytes: 10_000, ..Cohort::default() };
    let stays = Cohort::default();
    let of = |parts| Cohorts { span_ns: 60_000_000_000, parts };
    profile.cohorts.insert(SiteId(0), of(vec![grows; COHORTS]));
    let first = [vec![grows], vec![stays; COHORTS - 1]].concat();
    profile.cohorts.insert(SiteId(1), of(first));
    let page = rendered(&profile, &Options::default());
    let verdicts = piece(&page, "stacks")["verdict"].clone();
    let judged = |site| crate::report::verdicts::of_site(&profile, SiteId(site)).expect("a verdict");
    let words = crate::report::verdicts::in_words(&judged(0), false);
    assert!(words.starts_with("LEAK-LIKE: none of "), "{words}");
    assert_eq!([&verdicts[0], &verdicts[1]], [words.as_str(), judged(1).verdict.title()]);
    assert_eq!(verdicts[2], Value::Null);
    let growth = rendered(&profile, &Options { view: View::Growth, ..Options::default() });
    assert_eq!(piece(&growth, "stacks")["verdict"], serde_json::json!([null, null]));
}

#[test]
fn other_views_have_what_they_are_about() {
    let growth = rendered(&with_history(), &Options { view: View::Growth, ..Options::default() });
    assert_eq!(piece(&growth, "stacks")["bytes"], serde_json::json!({ "mapped": [1_081_344, 135_168] }));
    assert!(pieces(&growth).iter().all(|(name, _)| name != "stills"));
    let rss = rendered(&full(), &Options { view: View::Rss, ..Options::default() });
    assert_eq!(piece(&rss, "profile")["view"], "rss");
    let nothing = rendered(&empty(), &Options::default());
    assert!(!piece(&nothing, "profile")["empty"].as_array().expect("why").is_empty());
}

#[test]
fn many_stacks_are_a_file_that_browsers_open() {
    let profile = large(20_000, 40);
    let page = rendered(&profile, &Options::default());
    // Made to have next to nothing in common: real ones are some twentieth of it.
    assert!(page.len() < 16 << 20, "{}", page.len());
    let largest = pieces(&page).iter().map(|(_, piece)| piece.to_string().len()).max();
    assert!(largest < Some(1 << 20), "a piece that takes long to read: {largest:?}");
}
