//! How long processes lived on that chunks said nothing of. It is added once, in the end: small chunks may be many, and
//! processes, too.

use crate::model::{ProcessId, Profile};

/// See the module.
#[derive(Debug, Default)]
pub struct Lives {
    /// In all chunks so far.
    passed_ns: u64,
    /// By process: the same when it was last said how it is.
    said_at: Vec<u64>,
}

impl Lives {
    /// Takes a chunk: time that passed, and the processes that it says how they are, none of which leaves one out.
    pub fn pass(&mut self, passed_ns: u64, said: impl IntoIterator<Item = ProcessId>) {
        self.passed_ns = self.passed_ns.saturating_add(passed_ns);
        for process in said {
            match self.said_at.get_mut(process.index()) {
                Some(at) => *at = self.passed_ns,
                None => self.said_at.push(self.passed_ns),
            }
        }
    }

    /// Lets all processes live until the last chunk.
    pub fn end(self, profile: &mut Profile) {
        for (process, said_at) in profile.processes.iter_mut().zip(self.said_at) {
            process.live_on(self.passed_ns.saturating_sub(said_at));
        }
    }
}
