//! How much memory a recording may take, and the decoding of a block's content within that.

use super::{
    FREE_MEMORY, MEMORY_PER_BYTE,
    skipped::Count,
    version::Version,
    wire::{Bad, Reader, Wire},
};

/// What a block's content is.
pub(super) struct Decoded<T> {
    pub value: T,
    /// Of the file: only a start says more of it than was known.
    pub version: Version,
    /// Records with more behind what is known of them.
    pub skipped: Count,
}

/// Bytes that a recording takes, held against those that its file has.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Bytes of the file so far: what comes later does not pay for what comes first.
    pub read: u64,
    /// What the profile and the reports of it take.
    pub kept: u64,
}

impl Budget {
    /// What may be taken.
    pub fn limit(&self) -> u64 {
        self.read.saturating_mul(MEMORY_PER_BYTE).saturating_add(FREE_MEMORY)
    }

    /// Whether there is room for `bytes` beside what is kept.
    ///
    /// # Errors
    /// A sentence on what there is no room for.
    pub fn check(&self, what: &str, bytes: u64) -> Result<(), String> {
        if self.kept.saturating_add(bytes) <= self.limit() { Ok(()) } else { Err(self.too_much(what)) }
    }

    /// Decodes all of `content`, and says of which version the file is by that and what was skipped in it. Of what is kept,
    /// `reported` is for reports, which are made in the end only.
    ///
    /// # Errors
    /// What is wrong with it; that it takes too much memory, too.
    pub fn decode<T: Wire>(
        &self,
        content: &[u8],
        version: Version,
        reported: u64,
    ) -> Result<Decoded<T>, String> {
        let now = self.kept.saturating_sub(reported).saturating_add(content.len() as u64);
        let mut from = Reader::new(content, version, self.limit().saturating_sub(now));
        let decoded = T::read(&mut from).and_then(|value| {
            let version = from.version();
            Ok(Decoded { value, version, skipped: from.finish()? })
        });
        decoded.map_err(|bad| match bad {
            Bad::Memory => self.too_much("what it holds"),
            bad => format!("cannot be decoded: {bad}"),
        })
    }

    fn too_much(&self, what: &str) -> String {
        format!(
            "{what} would take more memory than a recording may: {MEMORY_PER_BYTE} bytes for each of its first {} \
             and {FREE_MEMORY} more",
            self.read
        )
    }
}
