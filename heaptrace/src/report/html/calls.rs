//! The merged call tree: what stacks have in common is there once, so that a page need not be given each stack.

use super::names::{Names, PIECE};
use super::page;
use crate::model::StackId;
use crate::report::labels::Labels;
use crate::report::stacks::Stacks;
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, Write};

/// A node for each call, outermost first and what it calls behind it (preorder): by how many levels the node before is deeper
/// than its parent (0: it is its parent), and its name's number.
#[derive(Debug, Default)]
pub(super) struct Calls {
    up: Vec<u32>,
    name: Vec<u32>,
    /// The innermost call of each stack.
    ends: HashMap<Option<StackId>, u32>,
}

#[derive(Serialize)]
struct Piece<'a> {
    up: &'a [u32],
    name: &'a [u32],
}

impl Calls {
    pub fn new(stacks: &Stacks<'_>, labels: &Labels<'_>, names: &Names) -> Self {
        let mut distinct: Vec<Option<StackId>> = stacks.rows.iter().map(|row| row.stack).collect();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.sort_by(|one, other| labels.walk_inwards(*one).cmp(labels.walk_inwards(*other)));
        let mut calls = Self::default();
        // The stack before: the name and the number of each of its calls.
        let mut path: Vec<(u32, u32)> = Vec::new();
        for stack in distinct {
            let mut depth = 0;
            for name in labels.walk_inwards(stack).map(|label| names.number(label)) {
                if path.get(depth).is_none_or(|(same, _)| *same != name) {
                    calls.up.push((path.len() - depth) as u32);
                    calls.name.push(name);
                    path.truncate(depth);
                    path.push((name, (calls.name.len() - 1) as u32));
                }
                depth += 1;
            }
            path.truncate(depth);
            if let Some((_, call)) = path.last() {
                calls.ends.insert(stack, *call);
            }
        }
        calls
    }

    /// The innermost call of a stack that it was made of.
    pub fn end(&self, stack: Option<StackId>) -> Option<u32> {
        self.ends.get(&stack).copied()
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (up, name) in self.up.chunks(PIECE).zip(self.name.chunks(PIECE)) {
            page::data(out, "calls", &Piece { up, name })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::{full, large};
    use crate::report::Options;

    /// Each stack as the page finds it: the names from its innermost call outwards.
    fn read(calls: &Calls, mut call: usize) -> Vec<u32> {
        let mut depths = Vec::new();
        let mut depth = 0;
        for up in &calls.up {
            depth = depth + 1 - up;
            depths.push(depth);
        }
        let mut path = vec![calls.name[call]];
        while depths[call] > 1 {
            let depth = depths[call];
            call = (0..call).rev().find(|at| depths[*at] == depth - 1).expect("a parent");
            path.push(calls.name[call]);
        }
        path
    }

    #[test]
    fn each_stack_is_a_way_through_the_tree() {
        for profile in [full(), large(200, 7)] {
            let stacks = Stacks::new(&profile, &Options::default());
            let labels = Labels::new(&profile);
            let names = Names::new(&stacks, &labels);
            let calls = Calls::new(&stacks, &labels, &names);
            for row in &stacks.rows {
                let expected: Vec<_> = labels.walk(row.stack).map(|label| names.number(label)).collect();
                let call = calls.end(row.stack).expect("a call");
                assert_eq!(read(&calls, call as usize), expected);
            }
        }
    }

    #[test]
    fn what_stacks_have_in_common_is_there_once() {
        let profile = large(200, 7);
        let stacks = Stacks::new(&profile, &Options::default());
        let labels = Labels::new(&profile);
        let calls = Calls::new(&stacks, &labels, &Names::new(&stacks, &labels));
        // All have one outermost call, and share little else.
        let mut depth = 0;
        let outermost = calls.up.iter().filter(|up| {
            depth = depth + 1 - **up;
            depth == 1
        });
        assert_eq!(outermost.count(), 1);
        assert!((200 * 5..=200 * 6 + 1).contains(&calls.name.len()), "{}", calls.name.len());
    }
}
