//! How a report is shown: written down in a format, or walked on the terminal.

use crate::{
    commands::{output::Destination, terminal::can_draw},
    error::Usage,
    report::{Format, Past, View},
};
use clap::ValueEnum as _;
use std::io::{self, IsTerminal as _};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Written(Format),
    Walked,
}

impl Way {
    /// # Errors
    /// If there is no terminal to walk on.
    pub fn walked() -> Result<Self, Usage> {
        let but = if !io::stdout().is_terminal() {
            "standard output is none"
        } else if !can_draw() {
            "TERM names none that can be drawn on"
        } else {
            return Ok(Self::Walked);
        };
        Err(Usage(format!(
            "--tui needs a terminal, and {but}: without it the report is text, and --format names others"
        )))
    }

    /// # Errors
    /// If it is nothing for what was asked for, or for where it goes.
    pub fn check(
        self,
        view: Option<View>,
        inverted: bool,
        ignores: bool,
        output: &Destination,
    ) -> Result<(), Usage> {
        if let Some(view) = view.filter(|view| !self.shows(*view)) {
            return Err(Usage(self.cannot_show(view)));
        }
        let Self::Written(format) = self else { return Ok(()) };
        if format.is_binary() && output.is_terminal() {
            let name = format.name();
            return Err(Usage(format!("--format {name} is no text for a terminal: name a file with -o")));
        }
        if ignores && format.past() != Past::None {
            let name = format.name();
            return Err(Usage(format!(
                "--format {name} has what was live at earlier moments, of which --ignore can take nothing out: use another format"
            )));
        }
        if inverted && !format.inverts() {
            return Err(Usage(
                "--inverted is for --format svg and folded, and --tui; the page of html has a button for it"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// The option that asks for it.
    pub fn option(self) -> String {
        match self {
            Self::Written(format) => format!("--format {}", format.name()),
            Self::Walked => "--tui".to_owned(),
        }
    }

    /// What of stacks is gone through: a tree is of all of them, as a table of them is.
    pub fn format(self) -> Format {
        match self {
            Self::Written(format) => format,
            Self::Walked => Format::Csv,
        }
    }

    pub fn past(self) -> Past {
        match self {
            Self::Written(format) => format.past(),
            Self::Walked => Past::None,
        }
    }

    /// Views that have whole stacks are what can be walked.
    fn shows(self, view: View) -> bool {
        self.format().shows(view)
    }

    /// That `view` is nothing for it, and which formats it is for.
    fn cannot_show(self, view: View) -> String {
        let can = Format::ALL
            .iter()
            .filter(|format| format.shows(view) && !format.replaces(view))
            .map(|format| format.name());
        let can = can.collect::<Vec<_>>().join(" and ");
        let view = view.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        format!("{} cannot show --view {view}: it is for --format {can}", self.option())
    }
}
