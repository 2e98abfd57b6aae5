//! Texts that others chose, made safe to look at: names of processes, paths and symbols, and errors that quote them. What
//! goes to a terminal, or to a file that will be shown on one, goes through here.

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

/// Whether a character is an order to a terminal, or makes a line look like another: control characters (C0, DEL and C1),
/// the ends of lines and paragraphs, and what changes the direction of writing.
fn is_order(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    ) || c.is_control()
}

/// `text` in one line that gives a terminal no orders: what would be one is spelled, as in `\x1b` or `\u{202e}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_order) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        // Writing to a string cannot fail.
        let _ = match u32::from(c) {
            _ if !is_order(c) => safe.write_char(c),
            code @ ..0x100 => write!(safe, "\\x{code:02x}"),
            code => write!(safe, "\\u{{{code:x}}}"),
        };
    }
    Cow::Owned(safe)
}

/// Says something on standard error, in one line, if anybody is there to hear it: the terminal may be gone.
pub fn say(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "heaptrace: {}", printable(&what.to_string()));
}

/// Writes `value` as JSON that gives a terminal no orders either: JSON's own rules let DEL, C1 and the rest through.
pub fn write_json(value: &impl Serialize, out: &mut dyn io::Write) -> io::Result<()> {
    serialize(value, Spelled(CompactFormatter), out)
}

/// The same with indentation.
pub fn write_json_pretty(value: &impl Serialize, out: &mut dyn io::Write) -> io::Result<()> {
    serialize(value, Spelled(PrettyFormatter::new()), out)
}

fn serialize(value: &impl Serialize, formatter: impl Formatter, out: &mut dyn io::Write) -> io::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, formatter)).map_err(io::Error::from)
}

/// Spells in strings what the formatter inside would write as it is.
struct Spelled<F>(F);

macro_rules! as_inside {
    ($($name:ident ( $($argument:ident : $type:ty),* );)*) => {
        $(fn $name<W: ?Sized + io::Write>(&mut self, out: &mut W, $($argument: $type),*) -> io::Result<()> {
            self.0.$name(out, $($argument),*)
        })*
    };
}

impl<F: Formatter> Formatter for Spelled<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_order(*c)) {
            self.0.write_string_fragment(out, &rest[..at])?;
            // All of them are in the plane that one such escape reaches.
            write!(out, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_string_fragment(out, rest)
    }

    as_inside! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str = "a\u{1b}[2J\nb\u{7f}\u{9b}31m\u{202e}\u{2066}\u{2028}z";

    #[test]
    fn orders_to_terminals_are_shown_not_sent() {
        assert_eq!(printable(ORDERS), "a\\x1b[2J\\x0ab\\x7f\\x9b31m\\u{202e}\\u{2066}\\u{2028}z");
        assert_eq!(printable("plain é 日本語"), "plain é 日本語");
        assert!(matches!(printable("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_is_the_same_value_without_orders() {
        let written = |pretty: bool| {
            let mut bytes = Vec::new();
            match pretty {
                true => write_json_pretty(&[ORDERS], &mut bytes),
                false => write_json(&[ORDERS], &mut bytes),
            }
            .expect("a vector");
            String::from_utf8(bytes).expect("text")
        };
        assert_eq!(written(false), r#"["a\u001b[2J\nb\u007f\u009b31m\u202e\u2066\u2028z"]"#);
        for text in [written(false), written(true)] {
            assert!(!text.trim_end().replace("\n ", "").replace("\n]", "").contains(is_order), "{text}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&text).expect("JSON"), [ORDERS]);
        }
    }
}
