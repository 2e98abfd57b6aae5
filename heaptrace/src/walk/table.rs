//! What is walked: stacks of processes, of what they are made, and what they are weighed by.

use crate::units::base_name;
use std::ops::Range;

/// Of a row or a sum of them, by the table's measures; there are no more of these than this has places.
pub type Amounts = [u64; 4];

/// What stacks are weighed by: bytes, or how many of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Of its column.
    pub title: &'static str,
    /// In words, with what it is not.
    pub meaning: String,
    pub is_bytes: bool,
}

/// What a place in a program is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    pub function: String,
    /// Empty if it is not known.
    pub file: String,
    pub line: Option<u32>,
    pub inlined: bool,
    /// Its place in the table's modules.
    pub module: Option<u32>,
    /// The first name that is of the same function.
    pub same: u32,
}

impl Name {
    /// The function, with its file, and with its line where the name stands for no other.
    pub fn described(&self, is_one_line: bool) -> String {
        let mut text = self.function.clone();
        if !self.file.is_empty() {
            text.push(' ');
            text.push_str(base_name(&self.file));
            if let Some(line) = self.line.filter(|_| is_one_line) {
                text += &format!(":{line}");
            }
        }
        if self.inlined && is_one_line {
            text.push_str(" (inlined)");
        }
        text
    }
}

/// What a process did with a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub process: u32,
    /// Of the table's paths, innermost first; never empty.
    pub path: Range<usize>,
    /// So many inner frames are not the user's; never all.
    pub folded: u32,
    pub amounts: Amounts,
}

/// See the module. What refers to something else does so by its place in that list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The recording, and what part of it.
    pub title: String,
    pub measures: Vec<Measure>,
    pub names: Vec<Name>,
    pub modules: Vec<String>,
    pub processes: Vec<String>,
    pub paths: Vec<u32>,
    pub rows: Vec<Row>,
    /// What is missing from the numbers, the first in one line with them.
    pub losses: Vec<String>,
    /// All that is to be known of them.
    pub remarks: Vec<String>,
    /// Why there are no rows, if so.
    pub empty: Vec<String>,
}

impl Table {
    /// Of all rows.
    pub fn total(&self) -> Amounts {
        let mut total = Amounts::default();
        self.rows.iter().for_each(|row| add(&mut total, &row.amounts));
        total
    }

    /// What a row's stack is made of, from its innermost frame or from the first that is the user's.
    pub fn frames(&self, row: &Row, raw: bool) -> &[u32] {
        let frames = &self.paths[row.path.clone()];
        if raw { frames } else { frames.get(row.folded as usize..).unwrap_or_default() }
    }
}

/// Adds amounts to a sum.
pub fn add(sum: &mut Amounts, amounts: &Amounts) {
    for (sum, amount) in sum.iter_mut().zip(amounts) {
        *sum = sum.saturating_add(*amount);
    }
}
