//! How what is live came about: what a recording held each time that it was saved.

use super::{Amount, ProcessId, SiteId};

/// What was allocated so far, and what of that was live, at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Since the start.
    pub at_ns: u64,
    pub allocated: Amount,
    pub live: Amount,
    /// Of the processes that ran, as far as it was read; 0 where it never was.
    pub rss_bytes: u64,
}

/// What was live when most was, of the moments at which the recording was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peak {
    pub at_ns: u64,
    /// By process, and by site; those that came later are not there.
    pub processes: Vec<Amount>,
    pub sites: Vec<Amount>,
}

/// Who held how many live bytes at a moment, where that is not as it was at the still before; at first, all that is not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Still {
    pub at_ns: u64,
    pub processes: Vec<(ProcessId, u64)>,
    pub sites: Vec<(SiteId, u64)>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// How many times the recording was saved.
    pub saved: u64,
    /// In their order, from the start, when there was nothing; of very many not all. The last one is the end.
    pub moments: Vec<Moment>,
    /// `None` where the end is it, or nobody asked.
    pub peak: Option<Peak>,
    /// In their order, the last one at the end; none where nobody asked.
    pub stills: Vec<Still>,
}
