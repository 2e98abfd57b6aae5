//! The commands: arguments in, effects out. What they compute is in the stages.

mod output;
pub mod report;
