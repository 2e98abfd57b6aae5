//! How much a task needs.

/// Each scope includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To compile: a C compiler, the BPF compiler and linker.
    Build,
    /// The program that `run` records when it is given none.
    Demo,
    /// To lint and test: Rust's components and the programs that the end-to-end tests trace.
    Everything,
}
