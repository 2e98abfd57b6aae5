//! How much of a process's life its probes were there for: intervals, and what they sum to.

use super::pauses::Pauses;
use std::ops::Range;

/// See the module. All are durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attendance {
    /// From the process's first moment, or from when it was found, until its end or that of tracing.
    pub life_ns: u64,
    /// In which all its probes counted.
    pub attached_ns: u64,
    /// From its first moment until they all did, if that is not 0.
    pub gap_ns: Option<u64>,
    /// In which they were away on purpose.
    pub paused_ns: u64,
}

impl Attendance {
    /// Of a process that lived through `life`, of which `gaps`, in any order, were not attended. Times are of one clock.
    pub fn of(life: Range<u64>, mut gaps: Vec<Range<u64>>, pauses: Option<&Pauses>) -> Self {
        let life_ns = life.end.saturating_sub(life.start);
        let paused_ns = pauses.map_or(0, |pauses| pauses.within(&life));
        gaps.sort_unstable_by_key(|gap| gap.start);
        let (mut missed, mut leading, mut seen_to) = (0, 0, life.start);
        for gap in gaps {
            let (from, to) = (gap.start.max(seen_to), gap.end.min(life.end));
            if from >= to {
                continue;
            }
            if from == life.start + leading {
                leading += to - from;
            }
            missed += to - from;
            seen_to = to;
        }
        let attached_ns = (life_ns - missed).saturating_sub(paused_ns);
        Self { life_ns, attached_ns, gap_ns: (leading > 0).then_some(leading), paused_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(life: Range<u64>, gaps: &[Range<u64>]) -> (u64, u64, Option<u64>) {
        let Attendance { life_ns, attached_ns, gap_ns, .. } = Attendance::of(life, gaps.to_vec(), None);
        (life_ns, attached_ns, gap_ns)
    }

    #[test]
    fn without_gaps_all_was_attended() {
        assert_eq!(of(100..300, &[]), (200, 200, None));
        assert_eq!(of(100..300, &[100..100, 50..90, 300..400]), (200, 200, None));
        assert_eq!(of(100..100, &[90..120, 95..100]), (0, 0, None));
    }

    #[test]
    fn a_gap_goes_on_over_the_exec_that_parts_it() {
        // The fork's image, unattended until its exec, and the next image's beginning.
        assert_eq!(of(100..300, &[100..117, 117..160]), (200, 140, Some(60)));
        // In any order, and overlapping.
        assert_eq!(of(100..300, &[110..160, 100..117]), (200, 140, Some(60)));
    }

    #[test]
    fn what_is_missing_later_is_no_part_of_the_beginning() {
        assert_eq!(of(100..300, &[100..120, 200..250]), (200, 130, Some(20)));
        assert_eq!(of(100..300, &[200..250, 240..400]), (200, 100, None));
    }

    #[test]
    fn a_life_can_be_missed_whole() {
        assert_eq!(of(100..300, &[0..u64::MAX, 150..200]), (200, 0, Some(200)));
    }

    /// Nothing is placed late while probes are away, so the two do not overlap.
    #[test]
    fn pauses_are_beside_the_gaps() {
        let mut pauses = Pauses::default();
        pauses.begin(105);
        pauses.end(150);
        pauses.begin(250);
        // Late by 5 when it was to begin, and a file by 10 in the midst.
        let late = Attendance::of(100..300, vec![100..105, 200..210], Some(&pauses));
        let expected = Attendance { life_ns: 200, attached_ns: 90, gap_ns: Some(5), paused_ns: 95 };
        assert_eq!(late, expected);
    }
}
