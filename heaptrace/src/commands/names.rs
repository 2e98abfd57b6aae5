//! Symbols of the stacks that a command prints while it traces: each place is looked up once.

use crate::{
    model::{Location, LocationId, Note, Notes, Profile, StackId, Symbol},
    session::Session,
    symbolize::Found,
};
use std::collections::BTreeSet;

/// See the module.
#[derive(Default)]
pub(super) struct Names {
    /// Locations that were looked up, found or not.
    asked: BTreeSet<LocationId>,
    /// Whose names were not found and why.
    notes: Notes,
}

impl Names {
    /// Finds symbols for those places in `stacks` that were in none before, and puts them into `profile`.
    pub fn find(&mut self, session: &Session, profile: &mut Profile, stacks: impl Iterator<Item = StackId>) {
        let (ids, locations) = self.new_in(profile, stacks);
        let Found { symbols, notes } = session.symbols_of(&locations);
        put(profile, ids.into_iter().zip(symbols));
        self.notes.extend(notes.into_iter().map(|what| Note::NamesMissing { what }));
        // Each chunk brings notes of its own, which take the place of these.
        profile.coverage.notes.merge(&self.notes);
    }

    /// Those places in `stacks` that were in none before, to be looked up by somebody else.
    pub fn new_in(
        &mut self,
        profile: &Profile,
        stacks: impl Iterator<Item = StackId>,
    ) -> (Vec<LocationId>, Vec<Location>) {
        let mut new = Vec::new();
        for stack in stacks.filter_map(|stack| profile.stacks.get(stack.index())) {
            let frames = stack.frames.iter().filter_map(|frame| profile.frames.get(frame.index()));
            new.extend(frames.map(|frame| frame.location).filter(|location| self.asked.insert(*location)));
        }
        new.into_iter().filter_map(|id| Some((id, profile.locations.get(id.index())?.clone()))).unzip()
    }
}

/// Puts symbols that were found into `profile`.
pub(super) fn put(profile: &mut Profile, names: impl IntoIterator<Item = (LocationId, Vec<Symbol>)>) {
    profile.symbols.resize_with(profile.locations.len(), Vec::new);
    for (id, symbols) in names {
        if let Some(slot) = profile.symbols.get_mut(id.index()) {
            *slot = symbols;
        }
    }
}
