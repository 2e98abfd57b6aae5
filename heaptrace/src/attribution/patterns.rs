//! Patterns of functions and files whose frames are not the user's, and the text that they are read from.

/// Whose a frame is that is not the user's, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Somebody said so.
    Asked,
    /// An allocator, or what passes its calls on.
    Allocator,
    /// The language's own library.
    Library,
    /// What runs programs of another language.
    Interpreter,
    /// What has a name as those have that pass an allocator's calls on: whether it does is told by how it is called.
    Forwarder,
}

/// Why a text of patterns cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPatterns {
    #[error(
        "line {line}: no such heading: {heading} (those are [allocator], [library], [interpreter] and [forwarder])"
    )]
    Heading { line: usize, heading: String },
    #[error("line {line}: no pattern behind {kind}")]
    Empty { line: usize, kind: &'static str },
}

/// See the module: `hidden-frames.txt` says how the text is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    functions: Vec<(Class, String)>,
    files: Vec<(Class, String)>,
    sources: Vec<(Class, String)>,
}

impl Patterns {
    /// Adds those of a text; what comes before the first heading is of `class`.
    ///
    /// # Errors
    /// [`BadPatterns`] at a line that is no pattern.
    pub fn add(&mut self, text: &str, mut class: Class) -> Result<(), BadPatterns> {
        for (line, pattern) in (1..).zip(text.lines().map(str::trim)) {
            match pattern {
                "[allocator]" => class = Class::Allocator,
                "[library]" => class = Class::Library,
                "[forwarder]" => class = Class::Forwarder,
                "[interpreter]" => class = Class::Interpreter,
                heading if heading.starts_with('[') && heading.ends_with(']') => {
                    return Err(BadPatterns::Heading { line, heading: heading.to_owned() });
                }
                empty if empty.is_empty() || empty.starts_with('#') => {}
                pattern => {
                    let (list, kind) = match pattern {
                        _ if pattern.starts_with("obj:") => (&mut self.files, "obj:"),
                        _ if pattern.starts_with("src:") => (&mut self.sources, "src:"),
                        _ => (&mut self.functions, ""),
                    };
                    let glob = &pattern[kind.len()..];
                    if glob.is_empty() {
                        return Err(BadPatterns::Empty { line, kind });
                    }
                    list.push((class, glob.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Whose a frame is, by its function's bare name, the name of its file and the path of its source; the surest that fits.
    pub fn class_of(&self, function: &str, file: &str, source: Option<&str>) -> Option<Class> {
        let functions = self.functions.iter().filter(|(_, pattern)| matches(pattern, function));
        let files = self.files.iter().filter(|(_, pattern)| matches(pattern, file));
        let is_of = |pattern: &str| source.is_some_and(|source| matches(pattern, source));
        let sources = self.sources.iter().filter(|(_, pattern)| is_of(pattern));
        functions.chain(files).chain(sources).map(|(class, _)| *class).min()
    }
}

/// Whether `pattern`, in which `*` stands for any characters and `?` for one, is all of `text`.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    matches_with(pattern, Some('?'), text)
}

/// The same, where `one` stands for one character.
pub(super) fn matches_with(pattern: &str, one: Option<char>, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where the last `*` was, and what it has not taken yet.
    let mut star: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let (mut next_pattern, mut next_text) = (pattern.clone(), text.clone());
        match (next_pattern.next(), next_text.next()) {
            (Some('*'), _) => {
                star = Some((next_pattern.clone(), text.clone()));
                pattern = next_pattern;
            }
            (Some(wanted), Some(found)) if wanted == found || Some(wanted) == one => {
                (pattern, text) = (next_pattern, next_text);
            }
            (None, None) => return true,
            _ => {
                let Some((behind, left)) = &mut star else { return false };
                if left.next().is_none() {
                    return false;
                }
                (pattern, text) = (behind.clone(), left.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_any_characters_and_question_marks_for_one() {
        for (pattern, text, expected) in [
            ("std::*", "std::vector::push_back", true),
            ("std::*", "mystd::f", false),
            ("?malloc", "zmalloc", true),
            ("?malloc", "malloc", false),
            ("*_malloc", "a_malloc_malloc", true),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_surest_counts_and_headings_divide() {
        let mut patterns = Patterns::default();
        patterns
            .add("# mine\nkeep_*\n obj:libx.so* \n[library]\nstd::*\n[allocator]\nstd::alloc*", Class::Asked)
            .expect("good");
        let class = |function: &str, file: &str| patterns.class_of(function, file, None);
        assert_eq!(class("keep_all", ""), Some(Class::Asked));
        assert_eq!(class("f", "libx.so.1"), Some(Class::Asked));
        assert_eq!(class("std::vector", "app"), Some(Class::Library));
        assert_eq!(class("std::allocate", "app"), Some(Class::Allocator));
        assert_eq!(class("main", "app"), None);
        patterns.add("src:*/vendor/*", Class::Library).expect("good");
        assert_eq!(patterns.class_of("main", "app", Some("/app/vendor/a.c")), Some(Class::Library));
        assert_eq!(patterns.class_of("main", "app", Some("/app/main.c")), None);
    }

    #[test]
    fn what_is_no_pattern_is_told_with_its_line() {
        let bad = |text: &str| Patterns::default().add(text, Class::Asked);
        assert_eq!(bad("\n[mine]"), Err(BadPatterns::Heading { line: 2, heading: "[mine]".into() }));
        assert_eq!(bad("obj:"), Err(BadPatterns::Empty { line: 1, kind: "obj:" }));
        assert_eq!(bad("x\nsrc:"), Err(BadPatterns::Empty { line: 2, kind: "src:" }));
    }

    fn slowly(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=text.len()).any(|taken| slowly(rest, &text[taken..])),
            (['?', rest @ ..], [_, text @ ..]) => slowly(rest, text),
            ([one, rest @ ..], [other, text @ ..]) => one == other && slowly(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_trying_all_ways_finds(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let [p, t] = [&pattern, &text].map(|of| of.chars().collect::<Vec<_>>());
            prop_assert_eq!(matches(&pattern, &text), slowly(&p, &t));
        }
    }
}
