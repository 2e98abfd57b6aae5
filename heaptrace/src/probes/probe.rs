//! The probes of a function, as a plan has them.

use super::cut::Kind;
use heaptrace_common::function::{Function, Shape};
use heaptrace_common::probe::{ProbeRecord, Role};

/// The probes of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub symbol: String,
    pub function: Function,
    pub shape: Shape,
    /// File offset of the function's entry.
    pub entry: u64,
    pub kind: Kind,
    /// Where each call passes one, or one of each kind.
    pub sites: Vec<Site>,
    /// Exits whose calls are not seen.
    pub unseen_exits: u32,
    /// Why there is nothing cheaper.
    pub why: Option<String>,
    /// What the sites are verified by, see [`heaptrace_common::check`].
    pub entered: Option<Site>,
    /// Each call ends at one of the sites: none in another function, or by an exception.
    pub ends_here: bool,
}

impl Probe {
    /// How the function is probed.
    pub fn kind(&self) -> ProbeKind {
        match self.shape {
            _ if self.function == Function::Sampled => ProbeKind::Offered,
            shape if !shape.allocates() => ProbeKind::Free,
            _ => ProbeKind::Allocates(self.kind),
        }
    }

    /// The fewest and the most traps that a call takes. A single-stepped instruction takes two.
    pub fn traps(&self) -> [u32; 2] {
        let of = |wanted: &[Role]| {
            let sites =
                self.sites.iter().filter(move |s| wanted.iter().any(|part| *part as u8 == s.record.role));
            let traps = sites.map(|site| if site.emulated { 1 } else { 2 });
            (traps.clone().min(), traps.max())
        };
        let (whole, begin, result) = (
            of(&[Role::Whole, Role::Free, Role::Sample, Role::SampleFree]),
            of(&[Role::Begin]),
            of(&[Role::Result]),
        );
        let pair = begin.0.zip(result.0).map(|(a, b)| a + b).zip(begin.1.zip(result.1).map(|(a, b)| a + b));
        let least = [whole.0, pair.map(|pair| pair.0)].into_iter().flatten().min();
        let most = [whole.1, pair.map(|pair| pair.1)].into_iter().flatten().max();
        [least.unwrap_or(0), most.unwrap_or(0)]
    }
}

/// How a function is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    Free,
    Allocates(Kind),
    /// The program tells of samples itself.
    Offered,
}

impl ProbeKind {
    /// As `doctor`'s JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Offered => "offered",
            Self::Allocates(Kind::OneTrap) => "one_trap",
            Self::Allocates(Kind::Stash) => "stash",
            Self::Allocates(Kind::EntryAndExits) => "entry_and_exits",
            Self::Allocates(Kind::Stepped) => "stepped",
        }
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Free => "where the block is given up",
            Self::Offered => "a trap a sample, where the allocator tells of one",
            Self::Allocates(Kind::OneTrap) => "one trap a call, where size and result are both known",
            Self::Allocates(Kind::Stash) => "one trap on most paths; on others size and result each take one",
            Self::Allocates(Kind::EntryAndExits) => "a trap for the arguments, another for the result",
            Self::Allocates(Kind::Stepped) => {
                "a trap for the arguments, and a single-stepped one for the result"
            }
        }
    }
}

/// One probed instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// File offset.
    pub offset: u64,
    pub record: ProbeRecord,
    /// Whether the kernel emulates it (one trap) or single-steps it (two).
    pub emulated: bool,
    /// Its disassembly.
    pub text: String,
    /// File offset of 16 bits that the kernel counts up while the probe is there (`ref_ctr_offset`); 0 for none.
    pub semaphore: u64,
}
