//! Whose names are missing, and why: for the report's footer.

use super::{open::Unfit, worker::Failure};
use std::{collections::BTreeMap, fmt};

/// Why names of a file are missing, or some of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Reading it took too long.
    TooLong,
    /// Reading it ended the child, by this signal if by one.
    Died(Option<i32>),
    /// The same of its DWARF alone: there are names, but neither lines nor inlined functions.
    OnlyTables,
    /// Files of the same owner had taken all the time, or all the room, that there is for them.
    ShareUsed,
    /// It has no build ID, and is not the file that was mapped, or not provably.
    Changed,
    NotRegular,
    TooLarge,
    /// Its file system does not answer.
    Deaf,
    /// It names a debug file by a path.
    LinkIsPath,
    /// What debuginfod's client has fetched of its build is not used: where that is, and why.
    Fetched(String),
    /// Some of its DWARF is in a file that it shares with others.
    Supplement,
    /// Some names were too long.
    Cut,
    /// What is wrong with a perf map.
    PerfMap(String),
}

impl Why {
    /// `None` where the file is just not there, which the report shows anyway.
    pub fn unfit(unfit: Unfit) -> Option<Self> {
        match unfit {
            Unfit::Absent => None,
            Unfit::NotRegular => Some(Self::NotRegular),
            Unfit::TooLarge => Some(Self::TooLarge),
            Unfit::Deaf => Some(Self::Deaf),
        }
    }

    pub fn failed(failure: &Failure) -> Self {
        match failure {
            Failure::TooLong => Self::TooLong,
            Failure::Deaf => Self::Deaf,
            Failure::Died(_) | Failure::Broken(_) | Failure::Refused(_) => Self::Died(failure.signal()),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "no names, as reading them took too long"),
            Self::Died(Some(libc::SIGABRT)) => write!(f, "no names, as reading them took too much memory"),
            Self::Died(Some(libc::SIGBUS)) => write!(f, "no names, as the file was cut short meanwhile"),
            Self::Died(Some(signal)) => write!(f, "no names, as reading them ended in signal {signal}"),
            Self::Died(None) => write!(f, "no names, as reading them failed"),
            Self::OnlyTables => {
                write!(
                    f,
                    "names without lines and inlined functions, as the debug information could not be read"
                )
            }
            Self::ShareUsed => write!(f, "no names, as files of the same owner had taken too long before"),
            Self::Changed => write!(f, "no names, as it may be another file now (it has no build ID)"),
            Self::NotRegular => write!(f, "no names, as it is not a regular file"),
            Self::TooLarge => write!(f, "no names, as the file is too large"),
            Self::Deaf => write!(f, "no names, as its file system does not answer"),
            Self::LinkIsPath => {
                write!(f, "no separate debug file, as the one that it names is not a bare name")
            }
            Self::Fetched(why) => write!(f, "what debuginfod fetched was not used: {why}"),
            Self::Supplement => write!(f, "debug information shared with other files (dwz) was not read"),
            Self::Cut => write!(f, "names that are too long were cut"),
            Self::PerfMap(why) => write!(f, "no names: {why}"),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Gaps {
    files: BTreeMap<Why, Vec<String>>,
    /// Why no file could be looked into.
    nothing: Option<String>,
}

impl Gaps {
    pub fn add(&mut self, why: Why, file: &str) {
        let files = self.files.entry(why).or_default();
        if files.last().is_none_or(|last| last != file) {
            files.push(file.to_owned());
        }
    }

    /// No file can be looked into at all.
    pub fn nothing(&mut self, why: String) {
        self.nothing.get_or_insert(why);
    }

    /// One sentence for each reason.
    pub fn notes(&self) -> Vec<String> {
        /// Few enough to read.
        const SHOWN: usize = 3;
        let reasons = self.files.iter().map(|(why, files)| {
            let shown = files[..files.len().min(SHOWN)].join(", ");
            match files.len() - files.len().min(SHOWN) {
                0 => format!("{shown}: {why}"),
                more => format!("{shown} and {more} more: {why}"),
            }
        });
        let nothing =
            self.nothing.iter().map(|why| format!("no names: the process that finds them failed: {why}"));
        nothing.chain(reasons).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_one_sentence_however_many_files_there_are() {
        let mut gaps = Gaps::default();
        for file in ["/a", "/b", "/b", "/c", "/d", "/e"] {
            gaps.add(Why::TooLong, file);
        }
        gaps.add(Why::Changed, "/f");
        let notes = gaps.notes();
        assert_eq!(
            notes,
            [
                "/a, /b, /c and 2 more: no names, as reading them took too long",
                "/f: no names, as it may be another file now (it has no build ID)"
            ]
        );
    }
}
