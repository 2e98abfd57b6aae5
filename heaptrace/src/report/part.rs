//! What part of a recording's time a report is of, in words and in JSON.

use super::table::process_name;
use crate::model::{Amount, Part, PartKind, Profile, RealPeak};
use crate::units::{counted, in_seconds, seconds, thousands};
use serde::Serialize;

/// A sentence after the other; none where it is all of it.
pub fn part(profile: &Profile) -> Vec<String> {
    let Some(Part { kind, from_ns, to_ns, whole_ns, saved }) = profile.part else { return Vec::new() };
    let (to, whole) = (seconds(to_ns), seconds(whole_ns));
    let of = format!("{} in {whole}", counted(saved, "saved state", "saved states"));
    match kind {
        PartKind::Moment => vec![format!("as it stood at {to}: of {of}, the last up to the time asked for")],
        PartKind::Peak { real } => {
            let mut lines = vec![format!("as it stood at {to}: of {of}, the one with most live")];
            lines.extend(real.and_then(|real| told(profile, real)));
            lines
        }
        PartKind::Span { shrank: Amount { bytes, count } } => {
            let from = seconds(from_ns);
            let mut lines = vec![if from_ns == 0 {
                format!(
                    "what came from the start to {to}: of {of}, the last up to the end that was asked for"
                )
            } else {
                format!(
                    "what came from {from} to {to}: between two of {of}; live is what a stack has more at the end of it than at its beginning"
                )
            }];
            if bytes > 0 || count > 0 {
                let blocks = counted(count, "block", "blocks");
                lines.push(format!(
                    "stacks that have less than before are in no total: {} bytes, {blocks} less",
                    thousands(bytes)
                ));
            }
            lines
        }
    }
}

/// How near the state is to the real peak, which is counted at every allocation.
fn told(profile: &Profile, RealPeak { process, bytes, after_ns, by_ns }: RealPeak) -> Option<String> {
    let process = profile.processes.get(process.index())?;
    let about = if profile.mode.sample_bytes() > 0 { "about " } else { "" };
    let live = process.totals.live_bytes();
    Some(format!(
        "the real peak of {} was {about}{} bytes, between {} and {}; it has {} of them here ({:.1}%)",
        process_name(process),
        thousands(bytes),
        seconds(after_ns),
        seconds(by_ns),
        thousands(live),
        100.0 * live as f64 / bytes.max(1) as f64
    ))
}

/// The same in the JSON report.
#[derive(Serialize)]
pub(super) struct PartData {
    kind: &'static str,
    from_s: f64,
    to_s: f64,
    recorded_s: f64,
    saved: u64,
    /// Of a peak.
    real_peak: Option<RealPeakData>,
    /// Of a span.
    shrank: Option<Shrank>,
}

#[derive(Serialize)]
struct RealPeakData {
    pid: u32,
    bytes: u64,
    after_s: f64,
    by_s: f64,
}

#[derive(Serialize)]
struct Shrank {
    bytes: u64,
    count: u64,
}

impl PartData {
    pub fn new(profile: &Profile) -> Option<Self> {
        let Part { kind, from_ns, to_ns, whole_ns, saved } = profile.part?;
        let (name, real, shrank) = match kind {
            PartKind::Moment => ("moment", None, None),
            PartKind::Peak { real } => ("peak", real, None),
            PartKind::Span { shrank } => ("span", None, Some(shrank)),
        };
        let real_peak = real.and_then(|RealPeak { process, bytes, after_ns, by_ns }| {
            let pid = profile.processes.get(process.index())?.pid;
            Some(RealPeakData { pid, bytes, after_s: in_seconds(after_ns), by_s: in_seconds(by_ns) })
        });
        Some(Self {
            kind: name,
            from_s: in_seconds(from_ns),
            to_s: in_seconds(to_ns),
            recorded_s: in_seconds(whole_ns),
            saved,
            real_peak,
            shrank: shrank.map(|Amount { bytes, count }| Shrank { bytes, count }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::full;
    use crate::model::ProcessId;

    const S: u64 = 1_000_000_000;

    fn of(kind: PartKind) -> Profile {
        let mut profile = full();
        profile.part = Some(Part { kind, from_ns: 5 * S, to_ns: 10 * S, whole_ns: 60 * S, saved: 12 });
        profile
    }

    #[test]
    fn each_kind_says_of_which_moments_it_is() {
        let all = full().processes[0].totals.live_bytes();
        let real = RealPeak { process: ProcessId(0), bytes: 2 * all, after_ns: 5 * S, by_ns: 15 * S };
        let said: Vec<String> = [
            PartKind::Moment,
            PartKind::Peak { real: Some(real) },
            PartKind::Span { shrank: Amount { bytes: 1_001, count: 1 } },
        ]
        .map(|kind| part(&of(kind)).join("\n"))
        .into();
        insta::assert_snapshot!(said.join("\n\n"));
        assert!(part(&full()).is_empty());
    }

    #[test]
    fn a_span_from_the_start_is_between_no_two_states_and_empty_blocks_are_told() {
        let mut profile = of(PartKind::Span { shrank: Amount { bytes: 0, count: 2 } });
        assert!(part(&profile)[1].ends_with("0 bytes, 2 blocks less"));
        assert_eq!(profile.time(), (profile.started_ns + 5 * S as i64, 5 * S));
        if let Some(part) = &mut profile.part {
            part.from_ns = 0;
        }
        assert!(part(&profile)[0].starts_with("what came from the start to 10.000 s: of 12 saved states"));
    }

    #[test]
    fn json_has_the_same() {
        let shrank = Amount { bytes: 1_001, count: 1 };
        let json = serde_json::to_value(PartData::new(&of(PartKind::Span { shrank }))).expect("JSON");
        let expected = serde_json::json!({
            "kind": "span", "from_s": 5.0, "to_s": 10.0, "recorded_s": 60.0, "saved": 12,
            "real_peak": null, "shrank": {"bytes": 1_001, "count": 1}
        });
        assert_eq!(json, expected);
    }
}
