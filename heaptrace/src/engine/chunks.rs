//! Chunks: what is new, for who keeps it elsewhere. No profile is made, so that memory stays as it is however long it takes.

use super::{Engine, Form};
use crate::{
    bpf::MapError,
    model::{Chunk, Names, ProcessId, Residency, Start},
};

/// See the module.
pub struct Chunks(());

impl Form for Chunks {
    fn new(_: Start) -> Self {
        Self(())
    }
}

impl Engine<Chunks> {
    /// What is new since the last chunk, as of when the maps were last read.
    ///
    /// # Errors
    /// If what was lost cannot be read.
    pub fn chunk(&mut self) -> Result<Chunk, MapError> {
        self.session.chunk()
    }

    /// What was measured since the last call: of processes that chunks have told of.
    pub fn measured(&mut self) -> Vec<(ProcessId, Residency)> {
        self.session.take_residency()
    }

    /// Measures the memory of all processes. For the end, before [`Engine::detach`].
    pub fn measure_all(&mut self) {
        self.session.measure_all();
    }

    /// The last chunk, with ages. After [`Engine::detach`].
    ///
    /// # Errors
    /// If the blocks, or what was lost, cannot be read.
    pub fn finish(&mut self) -> anyhow::Result<Chunk> {
        self.session.finish()
    }

    /// The symbols of all places that chunks have told of. May take long, as it looks into files.
    pub fn names(&self) -> Names {
        self.session.names()
    }
}
