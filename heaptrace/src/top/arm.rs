//! What people are told before a process is traced: what it will cost, or why it cannot be.

/// What a traced call takes at the least, in nanoseconds: the traps, as measured in our own process. What our programs do
/// in them comes on top, a third or so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeCost {
    pub alloc_ns: f64,
    /// `None` where frees are not traced.
    pub free_ns: Option<f64>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Arming {
    pub pid: u32,
    pub name: String,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Being measured.
    Wait,
    Can(Offer),
    Cannot(String),
}

/// What tracing would be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// `None` if it could not be measured.
    pub cost: Option<ProbeCost>,
    /// Only what its allocator samples itself is traced.
    pub own_samples: bool,
    /// `glibc /usr/lib/libc.so.6` ...
    pub allocators: Vec<String>,
    pub probes: usize,
    /// Of the kernel, for tables; 0 if they are there already.
    pub table_bytes: u64,
    /// What is left out or to be known.
    pub notes: Vec<String>,
}
