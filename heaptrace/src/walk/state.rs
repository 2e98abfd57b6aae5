//! Where one is, and what the world is asked for.

/// Where one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Tree,
    /// What is being typed.
    Search(String),
    /// With the lines above its first one.
    Help(usize),
}

/// How much of everything is seen at once; made by `view::screen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns and lines of the terminal.
    pub size: (u16, u16),
    /// Lines of the tree.
    pub page: usize,
    /// Lines of the help.
    pub help_page: usize,
}

/// What the world is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Quit,
    /// Stop, as Ctrl-Z does.
    Suspend,
    /// Draw everything anew.
    Redraw,
}
