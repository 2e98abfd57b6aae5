//! Files that are probed for all processes for the sake of some.

use std::collections::BTreeSet;

/// See the module.
pub struct Shared {
    told: bool,
    files: BTreeSet<String>,
}

impl Shared {
    /// `told`: there are processes that have nothing to do with the session.
    pub fn new(told: bool) -> Self {
        Self { told, files: BTreeSet::new() }
    }

    pub fn add(&mut self, file: String) {
        self.files.insert(file);
    }

    /// The first of the files whose calls trap, if others' do, and how many more there are.
    pub fn files(&self) -> Option<(Vec<String>, u64)> {
        /// Few enough to read.
        const SHOWN: usize = 3;
        if !self.told || self.files.is_empty() {
            return None;
        }
        let more = self.files.len().saturating_sub(SHOWN) as u64;
        Some((self.files.iter().take(SHOWN).cloned().collect(), more))
    }

    /// Whose calls trap, if others' do.
    pub fn who(&self) -> Option<String> {
        let (files, more) = self.files()?;
        let more = if more > 0 { format!(" or {more} more") } else { String::new() };
        Some(format!("every process that maps {}{more}", files.join(" or ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_of_where_there_are_any() {
        let mut shared = Shared::new(true);
        assert_eq!(shared.who(), None);
        for file in ["/c", "/a", "/b", "/d", "/e"] {
            shared.add(file.to_owned());
        }
        assert_eq!(shared.who().as_deref(), Some("every process that maps /a or /b or /c or 2 more"));
        assert_eq!(Shared { told: false, ..shared }.who(), None);
    }
}
