//! From a format to who writes it.

use super::{Format, Options, folded, json, svg, text};
use crate::model::Profile;
use std::io::{self, Write};

/// Writes the report of `profile` to `out`. Flame graphs and folded stacks have no rss view, and show what is live.
///
/// # Errors
/// What writing to `out` fails with.
pub fn render(format: Format, profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => text::render(profile, options, out),
        Format::Folded => folded::render(profile, options, out),
        Format::Svg => svg::render(profile, options, out),
        Format::Json => json::render(profile, options, out),
    }
}
