//! Snapshots: what was found so far as a profile that does not change any more, whoever holds it.

use super::{Engine, Form};
use crate::model::{BadChunk, Chunk, Names, Notes, ProcessId, Profile, Residency, Start};
use std::{sync::Arc, time::Duration};

/// See the module.
pub struct Snapshots {
    last: Arc<Profile>,
    /// Whose names are missing and why. Each chunk brings notes of its own, which take the place of these.
    unnamed: Notes,
}

impl Form for Snapshots {
    fn new(start: Start) -> Self {
        Self { last: Arc::new(Profile::new(start)), unnamed: Notes::default() }
    }
}

impl Snapshots {
    /// Where nobody holds the last snapshot any more, it becomes the next one; else that is a copy.
    fn fold(
        &mut self,
        chunk: Chunk,
        measured: Vec<(ProcessId, Residency)>,
        started_ns: i64,
        followed: Option<Duration>,
    ) -> Result<Arc<Profile>, BadChunk> {
        let profile = Arc::make_mut(&mut self.last);
        profile.fold(chunk)?;
        profile.measure(measured)?;
        profile.started_ns = started_ns;
        if let Some(followed) = followed {
            profile.duration_ns = u64::try_from(followed.as_nanos()).unwrap_or(u64::MAX);
        }
        profile.coverage.notes.merge(&self.unnamed);
        // It is complete up to now.
        profile.coverage.finished = true;
        Ok(Arc::clone(&self.last))
    }

    fn name(&mut self, names: Names) -> Result<Arc<Profile>, BadChunk> {
        self.unnamed.merge(&names.notes);
        Arc::make_mut(&mut self.last).name(names)?;
        Ok(Arc::clone(&self.last))
    }
}

impl Engine<Snapshots> {
    /// What was found until the maps were last read: see [`Engine::drain`]. Who lets go of it before the next spares a copy.
    ///
    /// # Errors
    /// If what was lost cannot be read.
    pub fn snapshot(&mut self) -> anyhow::Result<Arc<Profile>> {
        let chunk = self.session.chunk()?;
        let measured = self.session.take_residency();
        Ok(self.form.fold(chunk, measured, self.clock.started_ns(), self.clock.followed())?)
    }

    /// The last snapshot; of nothing, where there was none.
    pub fn latest(&self) -> &Arc<Profile> {
        &self.form.last
    }

    /// Takes names that a client has found of places in the last snapshot, or an earlier one: it has them from now on, as
    /// have later ones.
    ///
    /// # Errors
    /// If a place is not there.
    pub fn name(&mut self, names: Names) -> anyhow::Result<Arc<Profile>> {
        Ok(self.form.name(names)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::profiles::start,
        model::{Coverage, Location, LocationId, Note, Process, Symbol},
    };

    fn chunk(events: u64) -> Chunk {
        Chunk {
            duration_ns: events,
            coverage: Coverage { events, ..Coverage::default() },
            processes: vec![(ProcessId(0), Process { pid: 7, ..Process::default() })],
            ..Chunk::default()
        }
    }

    fn place() -> Location {
        Location::Unmapped { process: ProcessId(0), address: 0x1003 }
    }

    fn fold(snapshots: &mut Snapshots, chunk: Chunk) -> Arc<Profile> {
        snapshots.fold(chunk, Vec::new(), 5, None).expect("a good chunk")
    }

    #[test]
    fn who_holds_a_snapshot_sees_no_later_ones() {
        let mut snapshots = Snapshots::new(start());
        let first = fold(&mut snapshots, chunk(11));
        let second = fold(&mut snapshots, chunk(13));
        assert_eq!((first.coverage.events, second.coverage.events), (11, 13));
        assert_eq!((first.duration_ns, first.started_ns, first.coverage.finished), (11, 5, true));
    }

    #[test]
    fn what_nobody_holds_is_not_copied() {
        let mut snapshots = Snapshots::new(start());
        let first = Arc::as_ptr(&fold(&mut snapshots, chunk(11)));
        assert_eq!(Arc::as_ptr(&fold(&mut snapshots, chunk(13))), first);
    }

    #[test]
    fn names_that_were_found_stay_and_so_does_why_others_were_not() {
        let mut snapshots = Snapshots::new(start());
        let unnamed = fold(&mut snapshots, Chunk { locations: vec![place()], ..chunk(11) });
        let symbol = Symbol { name: "grow".into(), file: None, line: None, inlined: false };
        let missing = Note::NamesMissing { what: "no debug information".into() };
        let names = Names {
            symbols: vec![(LocationId(0), vec![symbol.clone()])],
            notes: [missing.clone()].into_iter().collect(),
        };
        let named = snapshots.name(names).expect("its place is there");
        let later = fold(&mut snapshots, chunk(13));
        for profile in [named, later] {
            assert_eq!(profile.symbols, [vec![symbol.clone()]]);
            assert_eq!(profile.coverage.notes.count_like(&missing), 1);
        }
        assert!(unnamed.symbols.is_empty() && unnamed.coverage.notes.is_empty());
    }

    #[test]
    fn names_of_places_that_are_not_there_are_refused() {
        let mut snapshots = Snapshots::new(start());
        let names = Names { symbols: vec![(LocationId(3), Vec::new())], ..Names::default() };
        assert!(snapshots.name(names).is_err());
    }

    #[test]
    fn how_long_targets_were_followed_is_told_where_it_is_known() {
        let mut snapshots = Snapshots::new(start());
        let profile = snapshots.fold(chunk(11), Vec::new(), 5, Some(Duration::from_nanos(17)));
        assert_eq!(profile.map(|profile| profile.duration_ns), Ok(17));
    }
}
