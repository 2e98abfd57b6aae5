//! Where one is, and how what is there is arranged.

use super::{columns::Column, detail::SiteOrder, filter::Filter};
use crate::process::procfs::Identity;
use std::collections::BTreeSet;

/// Where one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    List,
    Process,
    /// With the lines above its first one.
    Help(usize),
    /// What is being typed.
    Filter(String),
    /// Choosing the column to sort by.
    Sort(usize),
    /// Asked whether to trace a process.
    Arm,
}

/// How much of everything is seen at once; made by `view::screen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns and lines of the terminal.
    pub size: (u16, u16),
    /// Lines of the table.
    pub list_page: usize,
    /// Lines of sites.
    pub site_page: usize,
    /// Lines that the help can be scrolled by.
    pub help_lines: usize,
}

/// What the world is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Quit,
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// Find out what it would be to trace this process.
    Examine(u32),
    Arm(u32),
    Disarm(u32),
    Flame(u32),
    /// The process that is opened, or its order, changed.
    Detail,
}

/// The table of processes.
#[derive(Clone, Debug)]
pub struct ListState {
    pub sort: Column,
    pub reverse: bool,
    pub filter: Filter,
    /// As it was typed.
    pub filter_text: String,
    pub tree: bool,
    pub cgroup: bool,
    pub selected: Option<Identity>,
    /// Lines above the first one that is shown.
    pub offset: usize,
}

/// The screen of one process.
#[derive(Clone, Debug)]
pub struct ProcessState {
    pub identity: Identity,
    pub order: SiteOrder,
    /// What memory is made of stands in place of the charts.
    pub residency: bool,
    /// Sites whose stacks are shown.
    pub expanded: BTreeSet<usize>,
    /// The site that is selected, and how many lines below its first one.
    pub selected: Option<(usize, usize)>,
    pub offset: usize,
}
