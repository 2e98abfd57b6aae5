//! What was left out of a report as somebody has judged it already.

use crate::{
    attribution::Suppression,
    model::Amount,
    printable::printable,
    units::{counted, thousands},
};
use serde::Serialize;
use std::{cmp::Reverse, collections::BTreeMap};

/// What was ignored, in the measure of the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    pub stacks: u64,
    pub amount: Amount,
    /// By suppression, the most bytes first.
    by: Vec<By>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct By {
    file: String,
    line: usize,
    name: String,
    stacks: u64,
    bytes: u64,
    count: u64,
}

/// For programs.
#[derive(Serialize)]
pub(super) struct Entry<'a> {
    stacks: u64,
    bytes: u64,
    count: u64,
    by: &'a [By],
}

impl Ignored {
    pub(super) fn take(
        &mut self,
        suppression: &Suppression,
        at: usize,
        places: &mut BTreeMap<usize, usize>,
        amount: Amount,
    ) {
        self.stacks += 1;
        self.amount.add(amount);
        let place = *places.entry(at).or_insert_with(|| {
            let Suppression { file, line, name, .. } = suppression;
            let (file, line, name) = (file.clone(), *line, name.clone());
            self.by.push(By { file, line, name, stacks: 0, bytes: 0, count: 0 });
            self.by.len() - 1
        });
        let by = &mut self.by[place];
        by.stacks += 1;
        by.bytes = by.bytes.saturating_add(amount.bytes);
        by.count = by.count.saturating_add(amount.count);
    }

    /// In words: all together first, then by suppression; without `all` only the largest.
    pub fn lines(&self, (one, many): (&str, &str), all: bool) -> Vec<String> {
        const SHOWN: usize = 5;
        let what = |bytes, count, stacks| {
            let (blocks, stacks) = (counted(count, one, many), counted(stacks, "stack", "stacks"));
            format!("{} bytes in {blocks} of {stacks}", thousands(bytes))
        };
        let Self { stacks, amount: Amount { bytes, count }, by } = self;
        let mut lines = vec![format!("ignored (--ignore): {}", what(*bytes, *count, *stacks))];
        let shown = if all { by.len() } else { SHOWN };
        lines.extend(by.iter().take(shown).map(|of| {
            let (file, name) = (printable(&of.file), printable(&of.name));
            format!("  {file}:{} {name}: {}", of.line, what(of.bytes, of.count, of.stacks))
        }));
        if by.len() > shown {
            lines.push(format!(
                "  and by {} more (--verbose)",
                counted((by.len() - shown) as u64, "suppression", "suppressions")
            ));
        }
        lines
    }

    /// Orders them, once nothing is added any more.
    pub(super) fn sort(&mut self) {
        self.by.sort_by_key(|of| (Reverse(of.bytes), of.line));
    }

    pub(super) fn entry(&self) -> Entry<'_> {
        let Self { stacks, amount: Amount { bytes, count }, by } = self;
        Entry { stacks: *stacks, bytes: *bytes, count: *count, by }
    }
}
