//! `heaptrace report --tui` without the world around it: a table of weighted stacks as a tree, what of that is open, from
//! keys to what is shown, and the screen. Nothing here reads a clock, a file or a terminal.

mod app;
#[cfg(test)]
mod app_tests;
mod find;
mod help;
mod keys;
mod search;
mod shape;
mod state;
mod table;
mod tree;
#[cfg(test)]
mod tree_tests;
mod view;

pub use app::App;
pub use keys::{Action, action};
pub use shape::{Group, Shape};
pub use state::{Effect, Mode, Screen};
pub use table::{Amounts, Measure, Name, Row, Table};
pub use view::{draw, screen};
