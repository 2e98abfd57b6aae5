//! The file around the data: the page's skeleton, with its style and scripts put in, and the policy that lets nothing else in.

use crate::printable::write_json;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};

const SKELETON: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");

/// In the order in which they are run; they see what earlier ones define.
const SCRIPTS: &[&str] = &[
    include_str!("work.js"),
    include_str!("text.js"),
    include_str!("data.js"),
    include_str!("tree.js"),
    include_str!("colours.js"),
    include_str!("flame.js"),
    include_str!("sites.js"),
    include_str!("timeline.js"),
    include_str!("bars.js"),
    include_str!("coverage.js"),
    include_str!("main.js"),
];

/// What a page ends with, and has nowhere else: a `<` of the data is none.
pub const END: &str = "</html>\n";

/// What the skeleton has in the place of what is put in.
const POLICY: &str = "{policy}";
const STYLES: &str = "<!-- style -->";
const DATA: &str = "<!-- data -->";
const CODE: &str = "<!-- scripts -->";

/// Writes the page, with what `data` writes in it.
pub(super) fn write(
    out: &mut dyn Write,
    data: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut rest = SKELETON;
    let mut until = |mark: &str, out: &mut dyn Write| {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        rest = after;
        out.write_all(before.as_bytes())
    };
    until(POLICY, out)?;
    out.write_all(policy().as_bytes())?;
    until(STYLES, out)?;
    write!(out, "<style>{STYLE}</style>")?;
    until(DATA, out)?;
    data(out)?;
    until(CODE, out)?;
    for script in SCRIPTS {
        writeln!(out, "<script>{script}</script>")?;
    }
    out.write_all(rest.as_bytes())
}

/// Only the style and scripts that are put in here are of use, whatever a name in the data looks like; nothing is loaded, and
/// nothing sent.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    let scripts: Vec<_> = SCRIPTS.iter().map(|script| hash(script)).collect();
    format!(
        "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'",
        scripts.join(" "),
        hash(STYLE)
    )
}

/// Writes a piece of data that scripts find under `name`. Several may have one name.
pub(super) fn data(out: &mut dyn Write, name: &'static str, data: &impl Serialize) -> io::Result<()> {
    write!(out, "<script type=\"application/json\" data-name=\"{name}\">")?;
    write_json(data, &mut Inert(out))?;
    writeln!(out, "</script>")
}

/// JSON in which nothing is HTML: only strings have a `<` in them.
struct Inert<'a>(&'a mut dyn Write);

impl Write for Inert<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
            self.0.write_all(&rest[..at])?;
            self.0.write_all(br"\u003c")?;
            rest = &rest[at + 1..];
        }
        self.0.write_all(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skeleton_has_each_place_once_and_in_order() {
        let places = [POLICY, STYLES, DATA, CODE].map(|mark| {
            assert_eq!(SKELETON.matches(mark).count(), 1, "{mark}");
            SKELETON.find(mark).expect("it is there")
        });
        assert!(places.is_sorted(), "{places:?}");
        assert!(SKELETON.ends_with(END) && SKELETON.matches(END.trim_end()).count() == 1);
    }

    #[test]
    fn style_and_scripts_end_where_they_are_to_end_and_make_no_html_of_texts() {
        for text in SCRIPTS.iter().chain([&STYLE]) {
            assert!(!text.contains("</") && !text.contains("<!--"), "{text}");
            for unsafe_one in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http"]
            {
                assert!(!text.contains(unsafe_one), "{unsafe_one}");
            }
        }
        assert!(!SKELETON.contains("://") && !SKELETON.contains(" style="));
        assert!(!SKELETON.split_whitespace().any(|word| word.starts_with("on") && word.contains('=')));
    }

    #[test]
    fn names_that_look_like_html_are_texts() {
        let mut out = Vec::new();
        data(&mut out, "x", &["</script><img src=x onerror=y>", "<!--", "é\u{202e}"]).expect("a vector");
        let text = String::from_utf8(out).expect("UTF-8");
        let begin = "<script type=\"application/json\" data-name=\"x\">";
        let json =
            text.strip_prefix(begin).and_then(|rest| rest.strip_suffix("</script>\n")).expect("a script");
        assert!(!json.contains('<'), "{json}");
        let read: Vec<String> = serde_json::from_str(json).expect("JSON");
        assert_eq!(read, ["</script><img src=x onerror=y>", "<!--", "é\u{202e}"]);
    }
}
