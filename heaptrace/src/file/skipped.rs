//! What a recording has and this version does not read: counted, and said.

use super::version::Version;

/// So many things, and their bytes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub number: u64,
    pub bytes: u64,
}

impl Count {
    /// Counts one of `bytes`.
    pub fn add(&mut self, bytes: u64) {
        self.add_all(Self { number: 1, bytes });
    }

    /// Adds `other`.
    pub fn add_all(&mut self, other: Self) {
        let Self { number, bytes } = other;
        self.number = self.number.saturating_add(number);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn say(self, one: &str, many: &str) -> Option<String> {
        let Self { number, bytes } = self;
        (number > 0).then(|| format!("{number} {} ({bytes} bytes)", if number == 1 { one } else { many }))
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Blocks of kinds that a newer minor version has added.
    pub blocks: Count,
    /// Records to which a newer minor version has appended; the bytes are what was appended.
    pub records: Count,
    /// Bytes behind the block that ends the recording. No more than [`Self::MOST_BEHIND`] are counted.
    pub behind: u64,
}

impl Skipped {
    /// Past so many, bytes behind the end are not counted: a pipe may have no end.
    pub(super) const MOST_BEHIND: u64 = 1 << 30;

    /// A sentence on each kind that there is, of a recording of this format.
    pub fn sentences(&self, version: Version) -> Vec<String> {
        let Self { blocks, records, behind } = self;
        let unknown = [
            blocks.say("block of an unknown kind", "blocks of unknown kinds"),
            records.say("unknown addition to a record", "unknown additions to records"),
        ];
        let unknown: Vec<_> = unknown.into_iter().flatten().collect();
        let mut sentences = Vec::new();
        if !unknown.is_empty() {
            let (Version { major, minor }, known) = (version, Version::CURRENT.minor);
            sentences.push(format!(
                "a newer heaptrace made the file (format {major}.{minor}, while this version knows {major}.{known}): \
                 skipped {}",
                unknown.join(" and ")
            ));
        }
        if *behind > 0 {
            let least = if *behind == Self::MOST_BEHIND { "at least " } else { "" };
            sentences.push(format!("ignored {least}{behind} bytes after the end of the recording"));
        }
        sentences
    }
}
