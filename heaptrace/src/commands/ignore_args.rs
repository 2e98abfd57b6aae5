//! The option for what a user has judged already, and texts that users name.

use super::headings::SHOWN;
use crate::{attribution::Suppressions, created, error::Usage, printable::say, units::counted};
use anyhow::Context as _;
use clap::Args;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// More than anybody writes by hand.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, Default, Args)]
pub struct IgnoreArgs {
    /// Leave out the stacks that this file names: a suppression file of LeakSanitizer's (leak:PATTERN) or of valgrind's
    /// (Memcheck:Leak). What was left out is counted. May be given several times.
    #[arg(long, help_heading = SHOWN, value_name = "FILE")]
    ignore: Vec<PathBuf>,
}

impl IgnoreArgs {
    /// What the files say; `None` where none is named.
    ///
    /// # Errors
    /// If one cannot be read, or holds what is no suppression.
    pub fn suppressions(&self) -> anyhow::Result<Option<Suppressions>> {
        let mut all = Suppressions::default();
        for path in &self.ignore {
            all.add(path, &text(path)?).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
        }
        if all.others > 0 {
            say(format_args!(
                "--ignore: {} for something else than leaks {} passed over",
                counted(all.others as u64, "entry", "entries"),
                if all.others == 1 { "is" } else { "are" }
            ));
        }
        Ok((!self.ignore.is_empty()).then_some(all))
    }
}

/// The text of a file that a user wrote.
///
/// # Errors
/// If it cannot be read, or is longer than what anybody writes.
pub(super) fn text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = created::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
    let read = read.with_context(|| format!("failed to read {}", path.display()))?;
    if read as u64 > MOST_BYTES {
        return Err(Usage(format!("{} is longer than {MOST_BYTES} bytes", path.display())).into());
    }
    Ok(text)
}
