//! Symbols of the stacks that a command prints while it traces: each place is looked up once.

use crate::{
    model::{Location, LocationId, Profile, StackId},
    session::Session,
};
use std::collections::BTreeSet;

/// See the module.
#[derive(Default)]
pub(super) struct Names {
    /// Locations that were looked up, found or not.
    asked: BTreeSet<LocationId>,
}

impl Names {
    /// Finds symbols for those places in `stacks` that were in none before, and puts them into `profile`.
    pub fn find(&mut self, session: &Session, profile: &mut Profile, stacks: impl Iterator<Item = StackId>) {
        let mut new = Vec::new();
        for stack in stacks.filter_map(|stack| profile.stacks.get(stack.index())) {
            let frames = stack.frames.iter().filter_map(|frame| profile.frames.get(frame.index()));
            new.extend(frames.map(|frame| frame.location).filter(|location| self.asked.insert(*location)));
        }
        let locations: Vec<Location> =
            new.iter().filter_map(|id| profile.locations.get(id.index()).cloned()).collect();
        profile.symbols.resize_with(profile.locations.len(), Vec::new);
        for (id, symbols) in new.into_iter().zip(session.symbols_of(&locations)) {
            if let Some(slot) = profile.symbols.get_mut(id.index()) {
                *slot = symbols;
            }
        }
    }
}
