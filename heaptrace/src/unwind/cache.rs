//! Tables on disk, so that a file's is made once and not at each start.

use super::table::{FileTable, LocalRow, PageRows, RowKind, TableStats};
use crate::process::file_cache::{FileIdentity, Format};
use crate::process::object::Object;
use heaptrace_common::unwind::{PAGE_BITS, Rule};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

pub use crate::process::file_cache::FileCache as Cache;

/// `version` also of what the rows mean.
const FORMAT: Format = Format { magic: *b"HTUNWIND", version: 5, parameter: PAGE_BITS };

const SUFFIX: &str = ".unwind";

/// What a table was made of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    rows: RowKind,
    file: FileIdentity,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    identity: Identity,
    /// By which the file may be found again.
    path: PathBuf,
    stats: TableStats,
    first_page: u32,
    pages: Vec<PageRows>,
    rows: Vec<LocalRow>,
    rules: Vec<u64>,
}

impl Cache {
    /// The table of a file, if it is there and beyond doubt.
    pub fn load(&self, object: &Object, kind: RowKind) -> Option<FileTable> {
        let identity = Identity::of(object, kind)?;
        let path = self.path(&identity.file_name());
        let table = decode(&self.read(&path)?, &identity)?;
        self.touch(&path);
        Some(table)
    }

    /// Paths of the files that have tables of `kind` here, those used last first; at most `limit`. Whether a path still
    /// leads to that file, [`Self::load`] finds out.
    pub fn paths(&self, kind: RowKind, limit: usize) -> Vec<PathBuf> {
        let files = self.files(SUFFIX).into_iter();
        let entries = files.filter_map(|path| FORMAT.open::<Entry>(&self.read(&path)?));
        entries.filter(|entry| entry.identity.rows == kind).map(|entry| entry.path).take(limit).collect()
    }

    /// Keeps the table of a file that has a build ID. Errors where the directory cannot be written.
    pub fn save(&self, object: &Object, kind: RowKind, table: &FileTable) -> io::Result<()> {
        let Some(identity) = Identity::of(object, kind) else { return Ok(()) };
        let name = identity.file_name();
        self.write(&name, &encode(identity, &object.path, table)?)
    }
}

impl Identity {
    fn of(object: &Object, rows: RowKind) -> Option<Self> {
        Some(Self { rows, file: FileIdentity::of(object)? })
    }

    fn file_name(&self) -> String {
        let kind = match self.rows {
            RowKind::Calls => "",
            RowKind::Exact => "-exact",
        };
        format!("{}{kind}{SUFFIX}", self.file.name())
    }
}

fn encode(identity: Identity, path: &Path, table: &FileTable) -> io::Result<Vec<u8>> {
    FORMAT.seal(&Entry {
        identity,
        path: path.to_owned(),
        stats: *table.stats(),
        first_page: table.first_page(),
        pages: table.pages().to_vec(),
        rows: table.rows().to_vec(),
        rules: table.rules().iter().map(|rule| rule.0).collect(),
    })
}

/// What a file of the cache with these contents would give, if it were of the file that they say.
pub(crate) fn of_contents(body: &[u8]) -> Option<FileTable> {
    let bytes = FORMAT.sealed(body);
    let identity = FORMAT.open::<Entry>(&bytes)?.identity;
    decode(&bytes, &identity)
}

fn decode(bytes: &[u8], identity: &Identity) -> Option<FileTable> {
    let entry = FORMAT.open::<Entry>(bytes).filter(|entry| entry.identity == *identity)?;
    let rules = entry.rules.into_iter().map(Rule).collect();
    FileTable::from_parts(entry.first_page, entry.pages, entry.rows, rules, entry.stats).ok()
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
