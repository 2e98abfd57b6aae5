//! The commands: arguments in, effects out. What they compute is in the stages.

pub mod doctor;
mod following;
pub(crate) mod headings;
pub mod inspect;
pub mod instead;
pub mod leaks;
mod mode_prices;
mod names;
mod output;
mod outside;
mod prints;
mod progress;
pub mod record;
mod recordings;
pub mod report;
mod signals;
mod size_args;
mod stack_args;
mod started;
pub mod stat;
mod target_args;
pub mod top;
mod trace_args;
mod tracing;
pub(crate) mod verbose;
pub mod watch;
mod work;
