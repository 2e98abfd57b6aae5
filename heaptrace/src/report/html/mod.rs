//! The page: one file with the profile's data, its style and its scripts, which asks for nothing else. What it shows is made
//! of the data by its scripts, beside this file; here it is only told.

mod calls;
mod data;
mod names;
mod page;
mod rows;
mod spans;

#[cfg(test)]
mod tests;

pub use page::END;

use super::Options;
use super::export::{Content, Export, Past, Untold};
use super::labels::Labels;
use super::stacks::Stacks;
use crate::attribution::Attribution;
use crate::model::Profile;
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "html",
    help: "Page with flame graph, table and timeline, in one file, for browsers.",
    files: &["*.html", "*.htm"],
    content: Content::Views,
    is_binary: false,
    past: Past::Stills,
    tells_losses: true,
    render,
};

/// Stacks that browsers are given at most, the largest ones: with more the file is of some ten megabytes, and what is left
/// out is thinner than a pixel.
const MOST_STACKS: u64 = 50_000;

/// What a frame of a stack takes while the page is made.
const FRAME: u64 = 32;

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let mut stacks = Stacks::new(profile, options);
    stacks.hide_below(options.min_bytes);
    stacks.cut(MOST_STACKS, |_| 1);
    // The page has a switch for all frames.
    let hiding = if options.frames.hides() { options.frames.clone() } else { Attribution::default() };
    let labels = Labels::attributed(profile, &hiding);
    if let Some(memory) = options.memory {
        stacks.cut(memory, |row| FRAME * (1 + labels.walk(row.stack).count() as u64));
    }
    page::write(out, &mut |out| {
        let names = names::Names::new(&stacks, &labels);
        let calls = calls::Calls::new(&stacks, &labels, &names);
        page::data(out, "profile", &data::Data::new(&stacks, options))?;
        names.write(&labels, out)?;
        calls.write(out)?;
        rows::write(&stacks, &labels, &calls, options, out)?;
        spans::write(&stacks, out)
    })?;
    Ok(None)
}
