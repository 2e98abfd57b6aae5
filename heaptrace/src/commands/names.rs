//! Symbols of the stacks that a command prints while it traces: each place is looked up once.

use crate::{
    model::{self, Location, LocationId, Note, Profile, StackId},
    symbolize::Found,
};
use std::collections::BTreeSet;

/// See the module.
#[derive(Default)]
pub(super) struct Names {
    /// Locations that were looked up, found or not.
    asked: BTreeSet<LocationId>,
}

impl Names {
    /// Those places in `stacks` that were in none before, to be looked up.
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

/// What was found of these places, for profiles.
pub(super) fn of_places(ids: Vec<LocationId>, found: Found) -> model::Names {
    let Found { symbols, notes } = found;
    model::Names {
        symbols: ids.into_iter().zip(symbols).collect(),
        notes: notes.into_iter().map(|what| Note::NamesMissing { what }).collect(),
    }
}
