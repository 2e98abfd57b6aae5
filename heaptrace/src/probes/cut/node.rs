//! What a function's control flow is made of: instructions, the ways from one to the next, and ends.

use iced_x86::Instruction;

/// How control goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Next,
    Taken,
    /// An exception out of a call.
    Unwind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub to: usize,
    pub way: Way,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    Return,
    /// In `memset` or its like, which returns its first argument.
    Filling,
    /// In another function that is probed.
    PassesOn(u64),
    /// Through a pointer.
    Unknown,
    /// Not followed any further.
    Acts,
}

pub struct Node {
    /// Of an end, nothing.
    pub instruction: Instruction,
    pub end: Option<End>,
    pub successors: Vec<Edge>,
    /// Index of the part.
    pub part: usize,
    /// Whether other functions use this code, too.
    pub shared: bool,
    /// Whether an end can be reached.
    pub live: bool,
}

/// Functions that return their first argument (C11, 7.24.6.1 and 7.24.2).
pub fn returns_its_first_argument(name: &str) -> bool {
    matches!(name, "memset" | "memcpy" | "memmove" | "__memset_chk" | "__memcpy_chk" | "__memmove_chk")
}
