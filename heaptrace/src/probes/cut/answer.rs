//! What is asked for, and what is answered: the sites of a function, or why it has none.

use super::emulation::Emulation;
use heaptrace_common::function::Shape;
use heaptrace_common::probe::{Place, Role};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// ELF virtual address of the function.
    pub entry: u64,
    pub shape: Shape,
    /// Entries of all allocation functions of the file that are probed, this one among them.
    pub probed: &'a [u64],
    pub emulation: Emulation,
}

/// How well a function can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Every call in one trap.
    OneTrap,
    /// On some ways in one, on others in two: where the arguments were last known, and where the result is.
    Stash,
    /// In two.
    EntryAndExits,
    /// Some results that are no failures are seen where the kernel single-steps only: 15 times as dear.
    Stepped,
}

/// One probe of a cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CutSite {
    /// ELF virtual address.
    pub address: u64,
    #[serde(with = "super::kept::role")]
    pub role: Role,
    /// See [`heaptrace_common::probe::condition`].
    pub condition: u8,
    /// Of the size or, if `factor` is something, the other factor.
    #[serde(with = "super::kept::place")]
    pub size: Place,
    #[serde(with = "super::kept::place")]
    pub factor: Place,
    /// Of the value that the function will return. Of an `int` the low half counts.
    #[serde(with = "super::kept::place")]
    pub result: Place,
    /// Of the caller's rbp.
    #[serde(with = "super::kept::place")]
    pub caller_bp: Place,
    /// Bytes by which the stack pointer is lower than at the entry.
    pub pushed: u32,
    /// Whether the kernel emulates the instruction.
    pub emulated: bool,
    /// Other functions run through this code, too: without the call's `Begin` a hit means nothing.
    pub shared: bool,
    /// What a hit costs, roughly, in units of a tenth of the cheapest.
    pub weight: u32,
    /// The instruction, for people.
    pub text: String,
}

/// Where a function's calls are seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    pub kind: Kind,
    pub sites: Vec<CutSite>,
    /// Jumps through pointers that may end calls unseen.
    pub unseen_exits: u32,
    /// Entries of probed functions in which calls go on, and are seen.
    pub passes_on: Vec<u64>,
    /// Arguments are kept on all ways into those.
    pub keeps_passed: bool,
    /// Code of the function, and of functions between it and another probed one, from whose calls a hit is no call of
    /// the program's. In order.
    pub own_code: Vec<Range<u64>>,
    /// Those of `own_code` between probed functions, and the probed ones that reach each.
    pub between: Vec<(Range<u64>, Vec<u64>)>,
    /// Whether each call passes a `Begin` before it calls anything that belongs to `own_code`, or a probed function.
    pub begins_first: bool,
    /// (start, length) of all code that the proof rests on, in order, merged.
    pub bytes: Vec<(u64, u64)>,
    /// Why no better kind.
    pub why: Option<NoCut>,
    /// An emulated instruction that every call passes first, with its arguments still where the caller put them: to
    /// verify the sites by.
    pub entry: Option<CutSite>,
}

impl Cut {
    /// For a function that frees, whose code is `code`.
    pub fn of_free(site: CutSite, code: Range<u64>) -> Self {
        Self {
            kind: Kind::OneTrap,
            sites: vec![site],
            unseen_exits: 0,
            passes_on: Vec::new(),
            keeps_passed: false,
            own_code: Vec::new(),
            between: Vec::new(),
            begins_first: false,
            bytes: vec![(code.start, code.end - code.start)],
            why: None,
            entry: None,
        }
    }
}

/// Why a function has no cut, or no better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum NoCut {
    #[error("the file has no code at {0:#x}")]
    NoCode(u64),
    #[error("nothing says what function the code at {0:#x} belongs to: it has no unwind information")]
    NoFunction(u64),
    #[error("no function begins at {0:#x}")]
    NoEntry(u64),
    #[error("the file has more code than is searched for branches into the function")]
    TooMuchCode,
    #[error("the function is larger than what is analysed")]
    TooLarge,
    #[error("the code falls out of its function at {0:#x}")]
    FallsOut(u64),
    #[error("a computed jump at {0:#x}")]
    Computed(u64),
    #[error("a jump into another file at {0:#x}")]
    Leaves(u64),
    #[error("something leads into the middle of the code, to {0:#x}")]
    Reached(u64),
    #[error("the stack pointer is not where the unwind information says at {0:#x}")]
    StackPointer(u64),
    #[error("the exception table of the function at {0:#x} cannot be read")]
    LandingPads(u64),
    #[error("the kernel may restart the code at {0:#x}")]
    Restartable(u64),
    #[error("size and result are not known at once at an instruction that the kernel emulates, as at {0:#x}")]
    Apart(u64),
    #[error("the result is only known at an instruction that the kernel single-steps, at {0:#x}")]
    Late(u64),
    #[error("the old block must be taken before it is freed, and its result comes later")]
    TwoEnds,
    #[error("no instruction stands for all calls")]
    NoSite,
    #[error("nothing returns")]
    NoReturn,
    #[error("its calls were not as its code says")]
    Disagreed,
}

/// The most probes of one function: those of the largest known have a quarter of that.
pub const MAX_SITES: usize = 64;
