//! Which formats there are. A new one is a file with its [`Export`], and a line here.

use super::export::{Content, Export, Past};
use super::{
    Options, View, callgrind, csv, dhat, firefox, folded, heaptrack, html, json, massif, ndjson, otlp, pprof,
    speedscope, svg, text,
};
use crate::model::Profile;
use clap::{ValueEnum, builder::PossibleValue};
use std::io::{self, Write};
use std::path::Path;

macro_rules! formats {
    ($($format:ident => $export:path,)*) => {
        /// How a report is written down.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Format {
            $($format,)*
        }

        impl Format {
            /// In the order of `--help`.
            pub const ALL: &[Self] = &[$(Self::$format,)*];

            const fn export(self) -> &'static Export {
                match self {
                    $(Self::$format => &$export,)*
                }
            }
        }
    };
}

formats! {
    Text => text::EXPORT,
    Folded => folded::EXPORT,
    Svg => svg::EXPORT,
    Html => html::EXPORT,
    Json => json::EXPORT,
    Ndjson => ndjson::EXPORT,
    Csv => csv::EXPORT,
    Pprof => pprof::EXPORT,
    Otlp => otlp::EXPORT,
    Callgrind => callgrind::EXPORT,
    Massif => massif::EXPORT,
    Dhat => dhat::EXPORT,
    Heaptrack => heaptrack::EXPORT,
    Speedscope => speedscope::EXPORT,
    Firefox => firefox::EXPORT,
}

impl Format {
    /// What a file of this name is to be.
    pub fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let fits = Self::ALL.iter().filter_map(|format| Some((format.export().matches(name)?, *format)));
        fits.max_by_key(|(matched, _)| *matched).map(|(_, format)| format)
    }

    /// The names of files that stand for a format.
    pub fn files() -> Vec<&'static str> {
        Self::ALL.iter().flat_map(|format| format.export().files).copied().collect()
    }

    /// Whether it can show a view.
    pub fn shows(self, view: View) -> bool {
        // Others have no place for what they tell beside stacks.
        if matches!(view, View::Leaks | View::Churn) {
            return matches!(self, Self::Text | Self::Json | Self::Ndjson);
        }
        match self.export().content {
            Content::Views => true,
            Content::Stacks => !matches!(view, View::Rss | View::Sizes),
            Content::StacksForSizes => view != View::Rss,
        }
    }

    /// Whether it shows something else in the place of a view that it takes.
    pub fn replaces(self, view: View) -> bool {
        self.export().content == Content::StacksForSizes && view == View::Sizes
    }

    /// Whether terminals can show it.
    pub fn is_binary(self) -> bool {
        self.export().is_binary
    }

    /// Whether its stacks can begin with their innermost function.
    pub fn inverts(self) -> bool {
        matches!(self, Self::Folded | Self::Svg)
    }

    /// What it has a use for of [`Profile::history`].
    pub fn past(self) -> Past {
        self.export().past
    }

    /// Whether its readers learn from it what is missing from its numbers.
    pub fn tells_losses(self) -> bool {
        self.export().tells_losses
    }

    pub fn name(self) -> &'static str {
        self.export().name
    }
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let Export { name, help, .. } = self.export();
        Some(PossibleValue::new(name).help(help))
    }
}

/// Writes the report of `profile` to `out`, and tells what was left out that the report does not say. Formats of stacks
/// have no rss view, and show what is live.
///
/// # Errors
/// What writing to `out` fails with.
pub fn render(
    format: Format,
    profile: &Profile,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<Option<String>> {
    (format.export().render)(profile, options, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        let of = |name: &str| Format::of_file(Path::new(name)).map(Format::name);
        assert_eq!(of("/tmp/heap.svg"), Some("svg"));
        assert_eq!(of("heap.html"), Some("html"));
        assert_eq!(of("x.json"), Some("json"));
        assert_eq!(of("stacks.folded"), Some("folded"));
        assert_eq!(of("report.txt"), Some("text"));
        assert_eq!(of("heap.pb.gz"), Some("pprof"));
        assert_eq!(of("callgrind.out.4242"), Some("callgrind"));
        assert_eq!(of("massif.out.7"), Some("massif"));
        assert_eq!(of("heap.speedscope.json"), Some("speedscope"));
        assert_eq!(of("heap.firefox.json"), Some("firefox"));
        assert_eq!(of("dhat.out.4242"), Some("dhat"));
        assert_eq!(of("heap.otlp"), Some("otlp"));
        assert_eq!(of("heap.heaptrack.gz"), Some("heaptrack"));
        // What somebody ends a name with is meant.
        assert_eq!(of("massif.out.svg"), Some("svg"));
        assert_eq!(of("dhat.out.json"), Some("json"));
        assert_eq!(of("report"), None);
        assert_eq!(of("svg"), None);
        assert_eq!(of("/"), None);
    }

    #[test]
    fn views_without_stacks_are_for_formats_of_views() {
        let shown =
            |view| Format::ALL.iter().filter(|of| of.shows(view)).map(|of| of.name()).collect::<Vec<_>>();
        assert_eq!(shown(View::Rss), ["text", "html", "json", "ndjson"]);
        assert_eq!(shown(View::Leaks), ["text", "json", "ndjson"]);
        assert_eq!(shown(View::Churn), shown(View::Leaks));
        assert_eq!(shown(View::Sizes), ["text", "folded", "svg", "html", "json", "ndjson"]);
        assert!(Format::Svg.replaces(View::Sizes) && !Format::Json.replaces(View::Sizes));
        assert_eq!(shown(View::Faults).len(), Format::ALL.len());
    }

    #[test]
    fn each_format_has_a_name_and_files_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for format in Format::ALL {
            let export = format.export();
            assert!(seen.insert(export.name) && export.help.ends_with('.'), "{}", export.name);
            for pattern in export.files {
                assert!(seen.insert(pattern) && pattern.matches('*').count() == 1, "{pattern}");
            }
        }
    }
}
