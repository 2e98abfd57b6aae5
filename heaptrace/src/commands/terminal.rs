//! The terminal that a screen is drawn on.

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::{
        execute,
        terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate},
    },
    layout::Rect,
};
use std::{io, mem::ManuallyDrop};

/// The terminal, in its alternate screen and in raw mode. As it was again when this is dropped, also by a panic.
pub struct Terminal(ManuallyDrop<DefaultTerminal>);

impl Terminal {
    pub fn open() -> io::Result<Self> {
        ratatui::try_init().map(|terminal| Self(ManuallyDrop::new(terminal)))
    }

    /// Columns and lines.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        self.0.size().map(|size| (size.width, size.height))
    }

    /// Draws one frame: a terminal that can shows none that is half drawn (DEC private mode 2026), others pass over it.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        execute!(self.0.backend_mut(), BeginSynchronizedUpdate)?;
        let drawn = self.0.draw(draw).map(drop);
        execute!(self.0.backend_mut(), EndSynchronizedUpdate)?;
        drawn
    }

    /// Leaves the terminal to the shell until somebody says to go on.
    pub fn suspend(&mut self) -> io::Result<()> {
        ratatui::try_restore()?;
        // SAFETY: stops what the terminal is in front of, as Ctrl-Z would if it were not in raw mode.
        unsafe { libc::kill(0, libc::SIGTSTP) };
        *self.0 = ratatui::try_init()?;
        self.redraw()
    }

    /// Begins with an empty screen. `Terminal::clear` would ask the terminal where its cursor is, and take the answer
    /// away from who waits for keys.
    pub fn redraw(&mut self) -> io::Result<()> {
        let size = self.0.size()?;
        self.0.resize(Rect::new(0, 0, size.width, size.height))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to be put back; and dropped, ratatui's would say so to a standard error
        // that is gone, too, and panic.
        if self.0.show_cursor().is_ok() {
            // SAFETY: not used again.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
        let _ = ratatui::try_restore();
    }
}

/// Whether the terminal knows how to move its cursor.
pub fn can_draw() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}
