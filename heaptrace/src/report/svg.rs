//! The flame graph: inferno's, of the folded stacks.

use super::export::{Content, Export, Past, Untold};
use super::select::Selection;
use super::{By, Options, View, folded::Folded, footer, part, text};
use crate::model::Profile;
use inferno::flamegraph::{
    self,
    color::{Color, PaletteMap},
};
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "svg",
    help: "Flame graph, for browsers.",
    files: &["*.svg"],
    content: Content::StacksForSizes,
    is_binary: false,
    past: Past::None,
    tells_losses: true,
    render,
};

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let by_module = options.by == By::Module;
    let mut folded = Folded::new(profile, options, by_module);
    if let Some(memory) = options.memory {
        folded.cut(memory);
    }
    let mut subtitle = footer::summary(profile);
    for line in part::part(profile) {
        subtitle += &format!("; {line}");
    }
    if let Some(hidden) = folded.not_shown() {
        subtitle += &format!("; {hidden}");
    }
    if folded.is_empty() {
        empty(profile, options, subtitle, out)?;
        return Ok(None);
    }
    let mut colours = by_module.then(|| colours(&folded));
    let mut lines = Vec::new();
    folded.write(&mut lines)?;
    drop(folded);
    let lines = String::from_utf8(lines).map_err(io::Error::other)?;
    let mut graph = flamegraph::Options::default();
    graph.title = match options.view {
        View::Churn => "heaptrace: heap bytes freed again".into(),
        View::Live | View::Leaks | View::Rss => "heaptrace: live heap bytes".into(),
        View::Growth => "heaptrace: memory growth, bytes mapped".into(),
        View::Faults => "heaptrace: page faults, bytes touched first".into(),
        View::Alloc | View::Sizes => "heaptrace: allocated heap bytes".into(),
    };
    if options.inverted {
        graph.title += ", by the function that called the allocator";
        // Its callers hang below it.
        graph.direction = flamegraph::Direction::Inverted;
    }
    if by_module {
        graph.title += ", a colour for each module";
    }
    graph.palette_map = colours.as_mut();
    graph.subtitle = Some(subtitle);
    graph.count_name = "bytes".into();
    // A function has its colour in every graph, and the same recording gives the same file.
    graph.hash = true;
    graph.deterministic = true;
    flamegraph::from_lines(&mut graph, lines.lines(), out)?;
    Ok(None)
}

/// Hues of modules, in the order of what they have: those of the page.
const HUES: [f64; 12] = [212.0, 28.0, 140.0, 275.0, 350.0, 180.0, 50.0, 310.0, 95.0, 240.0, 8.0, 160.0];

/// Of what is in no module.
const NONE: Color = Color { r: 205, g: 208, b: 213 };

/// A colour for the frames of each module; grey for those of none.
fn colours(folded: &Folded<'_>) -> PaletteMap {
    let mut colours = PaletteMap::default();
    // What all frames are above of.
    colours.insert("", NONE);
    let mut rank = 0;
    for module in folded.modules() {
        let colour = if module.is_none { NONE } else { of_rank(rank) };
        rank += usize::from(!module.is_none);
        for frame in module.frames {
            colours.insert(frame, colour);
        }
    }
    colours
}

/// Further rounds through the hues are beside those before, and paler.
fn of_rank(rank: usize) -> Color {
    let round = (rank / HUES.len()) as f64;
    of_hue(HUES[rank % HUES.len()] + 13.0 * round, (0.62 - 0.14 * round).max(0.26), 0.74)
}

fn of_hue(hue: f64, saturation: f64, lightness: f64) -> Color {
    let part = |n: f64| {
        let k = (n + hue / 30.0) % 12.0;
        let most = saturation * lightness.min(1.0 - lightness);
        (255.0 * (lightness - most * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0))).round() as u8
    };
    Color { r: part(0.0), g: part(8.0), b: part(4.0) }
}

/// inferno makes an error of an empty graph; here it is a graph that says why.
fn empty(profile: &Profile, options: &Options, subtitle: String, out: &mut dyn Write) -> io::Result<()> {
    let nothing = Selection::new(profile, options).entries.is_empty();
    let mut lines =
        if nothing { text::why_empty(profile, options) } else { vec!["No stack to show.".into()] };
    lines.push(subtitle);
    message(&lines, out)
}

/// A picture of lines of text.
pub(super) fn message(lines: &[String], out: &mut dyn Write) -> io::Result<()> {
    let height = 20 * lines.len() + 20;
    writeln!(out, r#"<?xml version="1.0" standalone="no"?>"#)?;
    writeln!(
        out,
        r#"<svg version="1.1" width="1200" height="{height}" xmlns="http://www.w3.org/2000/svg">"#
    )?;
    for (index, line) in (1..).zip(lines) {
        let line = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        writeln!(
            out,
            r#"<text x="10" y="{}" font-family="monospace" font-size="12">{line}</text>"#,
            20 * index
        )?;
    }
    writeln!(out, "</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::full;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_hue_is_the_colour_that_browsers_make_of_it() {
        // hsl(212 62% 74%) and hsl(0 100% 50%).
        assert_eq!(of_rank(0), Color { r: 148, g: 186, b: 230 });
        assert_eq!(of_hue(0.0, 1.0, 0.5), Color { r: 255, g: 0, b: 0 });
        let twelve: BTreeSet<_> = (0..24).map(of_rank).map(|Color { r, g, b }| (r, g, b)).collect();
        assert_eq!(twelve.len(), 24);
    }

    #[test]
    fn frames_of_a_module_have_its_colour_and_its_name() {
        let profile = full();
        let of = |by| {
            let mut out = Vec::new();
            render(&profile, &Options { by, ..Options::default() }, &mut out).expect("a vector");
            String::from_utf8(out).expect("UTF-8")
        };
        let svg = of(By::Module);
        // <title>main (app) (1 bytes, 1%)</title><rect ... fill="rgb(1,2,3)"
        let mut colours: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for frame in svg.split("<title>").skip(1) {
            let (title, rest) = frame
                .split_once(" bytes, ")
                .map(|(title, rest)| (title.rsplit_once(" (").expect("bytes").0, rest))
                .expect("a frame");
            let module = title
                .strip_suffix(')')
                .and_then(|name| name.rsplit_once(" ("))
                .map_or("", |(_, module)| module);
            let colour =
                rest.split("fill=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a colour");
            colours.entry(module).or_default().insert(colour);
        }
        let modules: Vec<_> = colours.keys().copied().collect();
        assert_eq!(modules, ["", "app", "libc.so.6", "libfoo.so.1"]);
        let all: BTreeSet<_> = colours.values().flatten().collect();
        assert!(colours.values().all(|of| of.len() == 1) && all.len() == 4, "{colours:?}");
        assert!(!of(By::Stack).contains("main (app)"));
    }
}
