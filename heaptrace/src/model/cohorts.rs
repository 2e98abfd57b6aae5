//! How a site's blocks came, went and stayed, by when they were allocated.

/// The parts of a [`Cohorts`], at most: thirds, sixths and twelfths are whole numbers of them.
pub const COHORTS: usize = 24;

/// A part of the time in which a site's process was traced, and the blocks of the site that were allocated in it. Where blocks are
/// sampled, counts are of samples, and bytes are what they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cohort {
    pub allocated: u64,
    /// Blocks that were freed in this time, whenever they were allocated; none where frees are not traced.
    pub freed: u64,
    /// Live bytes at its end.
    pub held_bytes: u64,
    /// Of the blocks that were allocated in it, those that are live in the end.
    pub live: u64,
    pub live_bytes: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cohorts {
    /// All that time, until the end of tracing or of the process.
    pub span_ns: u64,
    /// In order, of equal length: [`COHORTS`] of them.
    pub parts: Vec<Cohort>,
}

impl Cohort {
    fn add(&mut self, other: &Self) {
        let Self { allocated, freed, held_bytes, live, live_bytes } = other;
        self.allocated = self.allocated.saturating_add(*allocated);
        self.freed = self.freed.saturating_add(*freed);
        self.held_bytes = self.held_bytes.saturating_add(*held_bytes);
        self.live = self.live.saturating_add(*live);
        self.live_bytes = self.live_bytes.saturating_add(*live_bytes);
    }
}

impl Cohorts {
    /// Adds those of another site of the same process, whose parts are the same times.
    pub fn add(&mut self, other: &Self) {
        self.span_ns = self.span_ns.max(other.span_ns);
        self.parts.resize(self.parts.len().max(other.parts.len()), Cohort::default());
        self.parts.iter_mut().zip(&other.parts).for_each(|(part, of)| part.add(of));
    }
}
