//! How coverage and notes lie in a recording. A case of a note is a text, JSON for the sake of fields to come; what is none
//! is a sentence of a version that had no other notes, or a kind that only newer ones know, and is told as it is.

use super::{Bad, Reader, Wire, Writer, record};
use crate::model::{Counts, Coverage, HitPrice, Note, Notes, SizeFilter, Untraceable};
use heaptrace_common::counter::Counter;
use serde::{Deserialize, Serialize};

record!(
    /// The counters of what was lost.
    struct StoredLost {
        live_map_full: u64,
        stack_map_full: u64,
        pending_full: u64,
        ring_full: u64,
        process_table_full: u64,
        scratch_busy: u64,
        result_unreadable: u64,
        growth_map_full: u64,
        disagreed: u64,
    }
);

record!(
    /// [`Coverage`], as it is written.
    struct StoredCoverage {
        events: u64,
        lost: StoredLost,
        unknown_frees: u64,
        missed_returns: u64,
        unpaired_returns: u64,
        nested_calls: u64,
        untraceable: Vec<Untraceable>,
        size_filter: Option<SizeFilter>,
        finished: bool,
        notes: Notes,
    },
    later { unfollowed: u64, hit_price: Option<HitPrice> }
);

impl StoredCoverage {
    /// Where a counter is written: every one is.
    fn place(&mut self, counter: Counter) -> &mut u64 {
        match counter {
            Counter::LiveMapFull => &mut self.lost.live_map_full,
            Counter::SiteTableFull => &mut self.lost.stack_map_full,
            Counter::PendingFull => &mut self.lost.pending_full,
            Counter::RingFull => &mut self.lost.ring_full,
            Counter::ProcessTableFull => &mut self.lost.process_table_full,
            Counter::ScratchBusy => &mut self.lost.scratch_busy,
            Counter::ResultUnreadable => &mut self.lost.result_unreadable,
            Counter::GrowthSiteFull => &mut self.lost.growth_map_full,
            Counter::Disagreed => &mut self.lost.disagreed,
            Counter::MissedReturn => &mut self.missed_returns,
            Counter::UnpairedReturn => &mut self.unpaired_returns,
            Counter::Nested => &mut self.nested_calls,
            Counter::Unfollowed => &mut self.unfollowed,
        }
    }
}

impl Wire for Coverage {
    fn write(&self, to: &mut Writer) {
        let Self { events, counts, unknown_frees, untraceable, size_filter, hit_price, finished, notes } =
            self.clone();
        let mut stored = StoredCoverage {
            events,
            unknown_frees,
            untraceable,
            size_filter,
            finished,
            notes,
            hit_price,
            ..StoredCoverage::default()
        };
        for counter in Counter::ALL {
            *stored.place(counter) = counts.get(counter);
        }
        stored.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let mut stored = StoredCoverage::read(from)?;
        let mut counts = Counts::default();
        for counter in Counter::ALL {
            counts.add(counter, *stored.place(counter));
        }
        let StoredCoverage {
            events,
            unknown_frees,
            untraceable,
            size_filter,
            hit_price,
            finished,
            notes,
            ..
        } = stored;
        Ok(Self { events, counts, unknown_frees, untraceable, size_filter, hit_price, finished, notes })
    }
}

/// One text a case.
impl Wire for Notes {
    fn write(&self, to: &mut Writer) {
        to_texts(self).write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Vec::<String>::read(from).map(from_texts)
    }
}

#[derive(Serialize, Deserialize)]
struct StoredNote {
    note: Note,
    /// Cases of the kind that are not kept; with one of those that are.
    #[serde(default, skip_serializing_if = "is_zero")]
    more: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn to_texts(notes: &Notes) -> Vec<String> {
    let cases = notes.kinds().iter().flat_map(|cases| {
        let mores = [cases.more()].into_iter().chain(std::iter::repeat(0));
        cases.kept().iter().zip(mores)
    });
    cases
        .map(|(note, more)| match note {
            Note::Told { text } if more == 0 => text.clone(),
            note => serde_json::to_string(&StoredNote { note: note.clone(), more })
                .expect("a note has neither maps with odd keys nor a serializer of its own"),
        })
        .collect()
}

fn from_texts(texts: Vec<String>) -> Notes {
    let mut notes = Notes::default();
    for text in texts {
        match serde_json::from_str(&text) {
            Ok(StoredNote { note, more }) => {
                notes.take(note.clone());
                notes.count_more(&note, more);
            }
            Err(_) => notes.take(Note::Told { text }),
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::{Version, content};
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let late = |pid| Note::ProbedLate {
            pid,
            comm: "a\"b".into(),
            files: vec!["/x".into()],
            late_ns: u64::from(pid),
        };
        let mut all: Notes = (0..5_000).map(late).collect();
        all.take(Note::GrowthOff);
        all.take(Note::Told { text: "as it was".into() });
        let coverage = Coverage {
            events: 7,
            counts: Counts::new(|counter| 100 + counter as u64),
            unknown_frees: 3,
            finished: true,
            notes: all,
            ..Coverage::default()
        };
        for version in [Version::of_header(Version::OLDEST), Version::CURRENT] {
            let mut coverage = coverage.clone();
            if !version.is_framed() {
                // It had no place for a counter that came later.
                coverage.counts = Counts::new(|counter| match counter {
                    Counter::Unfollowed => 0,
                    counter => coverage.counts.get(counter),
                });
            }
            let bytes = content(version, &coverage);
            let mut reader = Reader::new(&bytes, version, 64 << 20);
            assert_eq!(Coverage::read(&mut reader), Ok(coverage.clone()));
            assert!(reader.finish().is_ok());
        }
    }

    #[test]
    fn sentences_of_older_versions_and_kinds_of_newer_ones_are_told_as_they_are() {
        let sentence = "brk and mmap were not traced (--no-growth)".to_owned();
        let newer = r#"{"note":{"kind":"of_the_future","pid":1}}"#.to_owned();
        let read = from_texts(vec![sentence.clone(), newer.clone()]);
        let told: Notes = [sentence, newer].into_iter().map(|text| Note::Told { text }).collect();
        assert_eq!(read, told);
    }
}
