//! The names of what stacks are made of, as the page's first table.

use super::page;
use crate::report::labels::{Label, LabelId, Labels};
use crate::report::stacks::Stacks;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

/// Rows of a piece of a table: tables come column by column, in pieces that a browser reads in a few milliseconds.
pub(super) const PIECE: usize = 1 << 14;

/// Of those that are not there.
const NONE: u32 = u32::MAX;

/// Numbers of the names that are in stacks which are shown, and of the files that these are in.
pub(super) struct Names {
    /// By label; [`NONE`] of those that are in no stack.
    numbers: Vec<u32>,
    /// The other way around.
    labels: Vec<LabelId>,
    /// For each name the first that is of the same function.
    functions: Vec<u32>,
}

/// Names are texts; `file` and `module` are numbers in lists of the profile, or -1; 0 is no line.
#[derive(Default, Serialize)]
struct NamesPiece<'a> {
    text: Vec<&'a str>,
    file: Vec<i64>,
    line: Vec<u32>,
    module: Vec<i64>,
    inlined: Vec<u8>,
    function: Vec<u32>,
}

impl Names {
    pub fn new(stacks: &Stacks<'_>, labels: &Labels<'_>) -> Self {
        let mut numbers = vec![NONE; labels.len()];
        for row in &stacks.rows {
            labels.walk(row.stack).for_each(|label| numbers[label as usize] = 0);
        }
        let mut names = Vec::new();
        for (label, number) in (0..).zip(&mut numbers).filter(|(_, number)| **number != NONE) {
            *number = names.len() as u32;
            names.push(label);
        }
        let same = labels.same_functions();
        let mut first: HashMap<LabelId, u32> = HashMap::new();
        let functions = (0..).zip(&names);
        let functions =
            functions.map(|(number, label)| *first.entry(same[*label as usize]).or_insert(number)).collect();
        Self { numbers, labels: names, functions }
    }

    /// Of a label that is in a stack which is shown.
    pub fn number(&self, label: LabelId) -> u32 {
        self.numbers[label as usize]
    }

    /// The source files, in the order of their numbers.
    pub fn files<'a>(&self, labels: &'a Labels<'_>) -> BTreeMap<&'a str, i64> {
        let sources = self.labels.iter().filter_map(|label| labels.get(*label).source.as_ref());
        let mut files: BTreeMap<&str, i64> = sources.map(|(file, _)| (file.as_ref(), 0)).collect();
        files.values_mut().zip(0..).for_each(|(number, next)| *number = next);
        files
    }

    pub fn write(&self, labels: &Labels<'_>, out: &mut dyn Write) -> io::Result<()> {
        let files = self.files(labels);
        for file in files.keys().collect::<Vec<_>>().chunks(PIECE) {
            page::data(out, "files", &file)?;
        }
        for (ids, functions) in self.labels.chunks(PIECE).zip(self.functions.chunks(PIECE)) {
            let mut piece = NamesPiece { function: functions.to_vec(), ..NamesPiece::default() };
            for id in ids {
                let Label { name, source, inlined, module } = labels.get(*id);
                piece.text.push(name);
                piece.file.push(source.as_ref().map_or(-1, |(file, _)| files[file.as_ref()]));
                piece.line.push(source.as_ref().and_then(|(_, line)| *line).unwrap_or_default());
                piece.module.push(module.map_or(-1, |module| i64::from(module.0)));
                piece.inlined.push(u8::from(*inlined));
            }
            page::data(out, "names", &piece)?;
        }
        Ok(())
    }
}
