//! What a search finds: functions by a part of their name, their file's or their module's, whatever its letters' case.

use super::{
    shape::Shape,
    table::{Amounts, Table, add},
    tree::{Node, What},
};

/// See the module.
#[derive(Clone, Debug)]
pub struct Search {
    pub text: String,
    /// By the first name of a function.
    functions: Vec<bool>,
    modules: Vec<bool>,
    processes: Vec<bool>,
    /// Of each row how many of its calls there are up to the last that is found; 0 where none is.
    last: Vec<u32>,
    /// Functions that are found.
    pub found: usize,
    /// Of the rows with one of them.
    pub sums: Amounts,
}

impl Search {
    /// Looks for `text` in a table whose tree has this shape; `measure`: rows with nothing of it are not looked at.
    pub fn new(text: &str, table: &Table, shape: Shape, measure: usize) -> Self {
        let wanted = text.to_lowercase();
        let has = |text: &String| text.to_lowercase().contains(&wanted);
        let modules: Vec<bool> = table.modules.iter().map(has).collect();
        let mut functions = vec![false; table.names.len()];
        for name in &table.names {
            let in_module = name.module.is_some_and(|module| modules[module as usize]);
            functions[name.same as usize] |= in_module || has(&name.function) || has(&name.file);
        }
        let processes = table.processes.iter().map(has).collect();
        let mut sums = Amounts::default();
        let mut seen = vec![false; functions.len()];
        let mut last = Vec::with_capacity(table.rows.len());
        for row in &table.rows {
            let mut at = 0;
            if row.amounts[measure] > 0 {
                for (place, name) in (1..).zip(table.frames(row, shape.raw)) {
                    let same = table.names[*name as usize].same as usize;
                    if functions[same] {
                        seen[same] = true;
                        let depth = table.frames(row, shape.raw).len() as u32;
                        at = at.max(if shape.inverted { place } else { depth - place + 1 });
                    }
                }
            }
            if at > 0 {
                add(&mut sums, &row.amounts);
            }
            last.push(at);
        }
        let found = seen.iter().filter(|seen| **seen).count();
        Self { text: text.to_owned(), functions, modules, processes, last, found, sums }
    }

    pub fn is_match(&self, what: What) -> bool {
        match what {
            What::All | What::Module(None) => false,
            What::Process(process) => self.processes[process as usize],
            What::Module(Some(module)) => self.modules[module as usize],
            // A line is of a function that may be found by another line's file: names of one function have one file.
            What::Line(name) => self.functions[name as usize],
            What::Function(same) => self.functions[same as usize],
        }
    }

    /// Whether something below a node is found.
    pub fn is_below(&self, node: &Node) -> bool {
        node.members().iter().any(|member| self.last[member.row as usize] > member.at)
    }
}
