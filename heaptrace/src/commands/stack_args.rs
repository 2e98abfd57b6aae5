//! How stacks are walked, and the room for that.

use super::headings::{LIMITS, WHAT};
use crate::bpf::{StackMode, UnwindSizes};
use clap::{Args, ValueEnum, value_parser};

/// How stacks are walked and kept.
#[derive(Debug, Args)]
#[command(next_help_heading = LIMITS)]
pub struct StackArgs {
    /// How to unwind stacks.
    #[arg(long, value_enum, default_value_t = StackArg::Auto, help_heading = WHAT)]
    pub stack: StackArg,
    /// Most stack frames, those with the same callers counted once [default: what --memory leaves].
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1 << 28))]
    pub max_frames: Option<u32>,
    /// Room for unwind tables, in rows (rounded up to 65,536).
    #[arg(long, value_name = "N", default_value_t = UnwindSizes::default().rows(), value_parser = value_parser!(u32).range(1..=1 << 24))]
    pub max_unwind_rows: u32,
    /// Most code that has unwind tables, in MiB (rounded up to 64).
    #[arg(long, value_name = "N", default_value_t = UnwindSizes::default().code_mib(), value_parser = value_parser!(u32).range(1..=1 << 15))]
    pub max_unwind_code: u32,
    /// Processes with full stacks; raise when many run. A process with more than 128 code mappings takes two or four.
    #[arg(long, value_name = "N", default_value_t = UnwindSizes::default().lists, value_parser = value_parser!(u32).range(1..=1 << 17))]
    pub max_unwind_lists: u32,
}

/// How to unwind stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StackArg {
    /// .eh_frame tables, and frame pointers where there are none (JIT code).
    Auto,
    /// Frame pointers only: for programs built with -fno-omit-frame-pointer.
    Fp,
    /// .eh_frame only: no frame-pointer fallback for JIT code.
    Dwarf,
    /// No stacks: totals only.
    None,
}

/// How stacks are walked, and the room for that.
pub(super) fn stack_options(stacks: Option<&StackArgs>) -> (StackMode, UnwindSizes) {
    let mode = match stacks.map(|stacks| stacks.stack) {
        Some(StackArg::Auto) => StackMode::Auto,
        Some(StackArg::Dwarf) => StackMode::Dwarf,
        Some(StackArg::Fp) => StackMode::FramePointers,
        Some(StackArg::None) | None => StackMode::None,
    };
    let sizes = stacks.filter(|_| mode.uses_tables()).map_or(UnwindSizes::NONE, |stacks| {
        UnwindSizes::new(stacks.max_unwind_rows, stacks.max_unwind_code, stacks.max_unwind_lists)
    });
    (mode, sizes)
}
