//! Why a stack walk ended.

/// The most frames that one stack holds (as perf's default `kernel.perf_event_max_stack`).
pub const MAX_FRAMES: usize = 127;

/// Why a stack walk ended. All but `Complete` mean that outer frames are missing.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StackEnd {
    /// The outermost frame was reached.
    Complete = 0,
    /// `MAX_FRAMES` were not enough.
    Depth = 1,
    /// No unwind information for the frame, and no frame pointer that leads on.
    NoUnwindInfo = 2,
    /// The program's stack could not be read.
    Unreadable = 3,
    /// The chain led to an address that can be no return address.
    Implausible = 4,
    /// No stack was walked: asked for (`--stack none`), or no room to walk or keep it.
    NotWalked = 5,
    /// An address in no known mapping of the process, and no frame pointer that leads on.
    NoMapping = 6,
    /// The frame's unwind rule is one that the tables cannot express, or needs a register that was lost.
    UnsupportedRule = 7,
    /// The caller's stack pointer would not lie above the frame's own, or is not aligned.
    BadStackPointer = 8,
    /// A signal or a fault interrupted the frame between calls, and its exact rows were not there, or have no rule.
    Interrupted = 9,
    /// A return probe had replaced the return address, and the true one could not be found.
    ReturnProbe = 10,
}

impl StackEnd {
    /// Every end, in the order of its number.
    pub const ALL: [Self; 11] = [
        Self::Complete,
        Self::Depth,
        Self::NoUnwindInfo,
        Self::Unreadable,
        Self::Implausible,
        Self::NotWalked,
        Self::NoMapping,
        Self::UnsupportedRule,
        Self::BadStackPointer,
        Self::Interrupted,
        Self::ReturnProbe,
    ];

    /// The end numbered `number`; an unknown number is `NotWalked`.
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::NotWalked)
    }

    /// The name that reports and the JSON use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Depth => "depth",
            Self::NoUnwindInfo => "no_unwind_info",
            Self::Unreadable => "unreadable",
            Self::Implausible => "implausible",
            Self::NotWalked => "not_walked",
            Self::NoMapping => "no_mapping",
            Self::UnsupportedRule => "unsupported_rule",
            Self::BadStackPointer => "bad_stack_pointer",
            Self::Interrupted => "interrupted",
            Self::ReturnProbe => "return_probe",
        }
    }
}
