//! How a tree is made of the table: what is on its first level, and which way calls go from there.

use super::table::{Row, Table};

/// What the first level of the tree is; below it are calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Group {
    #[default]
    Calls,
    /// Lines that called the allocator.
    Site,
    /// Functions, each with the stacks that it is in: their sums overlap.
    Function,
    Module,
    Process,
}

impl Group {
    pub const ALL: [Self; 5] = [Self::Calls, Self::Site, Self::Function, Self::Module, Self::Process];

    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "call stack",
            Self::Site => "site",
            Self::Function => "function",
            Self::Module => "module",
            Self::Process => "process",
        }
    }
}

/// What a tree is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub group: Group,
    /// Calls begin with the function that called the allocator, and go on with its callers.
    pub inverted: bool,
    /// With inner frames that are not the user's.
    pub raw: bool,
}

impl Shape {
    /// How many frames of a row are in the tree.
    pub fn depth(self, table: &Table, row: &Row) -> u32 {
        table.frames(row, self.raw).len() as u32
    }

    /// The name at a place of a row's calls, in the order of the tree.
    pub fn name(self, table: &Table, row: &Row, at: u32) -> Option<u32> {
        let frames = table.frames(row, self.raw);
        let index = if self.inverted { at as usize } else { frames.len().checked_sub(1 + at as usize)? };
        frames.get(index).copied()
    }
}
