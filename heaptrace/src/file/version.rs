//! Which format a recording is of.

/// A version of the format. Within a major version, a newer minor one may add kinds of blocks and append values to records,
/// which a reader that does not know them skips; all else is a new major version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// In the file's header. 5 and 6 had no minor versions; 5 had no names in blocks of their own.
    pub major: u32,
    /// In the start, whose checksum covers it.
    pub minor: u32,
}

impl Version {
    /// What is written.
    pub const CURRENT: Self = Self { major: 7, minor: 8 };

    /// The oldest major version that is read: those before say less of a process, which nothing makes up for.
    pub const OLDEST: u32 = 5;

    /// The first whose records can be skipped, and whose chunks hold what changed.
    const FRAMED: u32 = 7;

    /// Before anything of the start is known.
    pub fn of_header(major: u32) -> Self {
        Self { major, minor: 0 }
    }

    /// Whether there is a minor version, records have their length before them, and chunks hold what changed: see the
    /// module `wire`.
    pub fn is_framed(self) -> bool {
        self.major >= Self::FRAMED
    }

    /// Whether there may be more in it than this version knows.
    pub fn has_unknown(self) -> bool {
        self.minor > Self::CURRENT.minor
    }
}
