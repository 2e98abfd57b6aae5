//! Frees that were looked into, where that was asked for.

use super::{ProcessId, StackId};
use heaptrace_common::function::Function;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frees {
    /// Calls that freed what was not live, those that did so most often first.
    pub bad: Vec<BadFree>,
    /// Whose blocks which calls freed, as far as the call says by its name which function it meant.
    pub pairs: Vec<FreePair>,
    /// Some found no room.
    pub is_cut: bool,
}

/// A call of an allocation function, or of one that frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub function: Function,
    pub stack: StackId,
}

/// Calls from one stack that freed what was not live. The process was traced from its first instruction, or the block is known to
/// have been freed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFree {
    pub process: ProcessId,
    pub call: Call,
    pub count: u64,
    /// What the first of them freed.
    pub address: u64,
    /// Who had allocated the block that lay there, which had been freed; `None` of an address that was never given out, or so long
    /// ago that it is not remembered.
    pub allocated: Option<Call>,
    /// Who had freed it, if that is known.
    pub freed: Option<Call>,
}

/// Blocks that were allocated from one stack, and freed from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreePair {
    pub process: ProcessId,
    pub allocated: Call,
    pub freed: Call,
    /// What the two calls name.
    pub meant: (Meant, Meant),
    pub count: u64,
}

/// Which kind of function an instruction calls by its name, whatever that makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meant {
    /// It is not known, or another: a function that passes calls on.
    #[default]
    Other,
    /// malloc and its kin, or free.
    C,
    /// C++'s operators.
    Cpp,
}
