//! An inspection as it is shown.

use super::{Inspection, svg, text};
use crate::printable::write_json_pretty;
use std::io::{self, Write};

impl Inspection {
    /// Writes it for people.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        text::render(self, out)
    }

    /// Writes the picture of glibc's heap; nothing where none was found.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn write_svg(&self, out: &mut dyn Write) -> io::Result<()> {
        self.glibc.as_ref().map_or(Ok(()), |glibc| svg::render(self, glibc, out))
    }

    /// Writes it for programs.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        write_json_pretty(self, out)?;
        writeln!(out)
    }
}
