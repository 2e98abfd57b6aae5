//! The commands: arguments in, effects out. What they compute is in the stages.

pub mod doctor;
mod output;
mod progress;
pub mod record;
pub mod report;
