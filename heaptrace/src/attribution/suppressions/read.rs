//! The text of suppression files: lines of LeakSanitizer's (`leak:PATTERN`), and valgrind's entries in braces.

use super::{
    frame::Frame,
    set::{Step, Suppression, Suppressions},
};
use std::path::Path;

/// Why a text of suppressions cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSuppressions {
    #[error("line {line}: neither leak:PATTERN nor {{ of one of valgrind's: {text}")]
    Unknown { line: usize, text: String },
    #[error("line {line}: no pattern")]
    Empty { line: usize },
    #[error("line {line}: it has no end (}})")]
    Open { line: usize },
    #[error("line {line}: no kind of suppression (Memcheck:Leak): {text}")]
    NoKind { line: usize, text: String },
    #[error("line {line}: neither fun:, obj:, src: nor ...: {text}")]
    NoFrame { line: usize, text: String },
    #[error("line {line}: it has no frame")]
    NoFrames { line: usize },
    #[error("line {line}: wildcards in the midst of a mangled name: write it demangled (foo::bar*): {text}")]
    Mangled { line: usize, text: String },
}

impl Suppressions {
    /// Adds those of a file's text.
    ///
    /// # Errors
    /// [`BadSuppressions`] at the first line that is none.
    pub fn add(&mut self, file: &Path, text: &str) -> Result<(), BadSuppressions> {
        read(self, &file.display().to_string(), text)
    }
}

fn read(to: &mut Suppressions, file: &str, text: &str) -> Result<(), BadSuppressions> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let mut lines = lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
    while let Some((line, text)) = lines.next() {
        if text == "{" {
            entry(to, file, line, &mut lines)?;
            continue;
        }
        let unknown = || BadSuppressions::Unknown { line, text: text.to_owned() };
        let pattern = text.strip_prefix("leak:").ok_or_else(unknown)?;
        let pattern = some(line, pattern)?;
        let steps = vec![Step::Any, Step::Frame(to.intern(Frame::part(pattern)))];
        let (file, name) = (file.to_owned(), text.to_owned());
        to.all.push(Suppression { file, line, name, steps, is_from_innermost: false });
    }
    Ok(())
}

/// What is behind a `{`, which stands in line `begin`.
fn entry<'t>(
    to: &mut Suppressions,
    file: &str,
    begin: usize,
    lines: &mut impl Iterator<Item = (usize, &'t str)>,
) -> Result<(), BadSuppressions> {
    let open = BadSuppressions::Open { line: begin };
    let (_, name) = lines.next().ok_or_else(|| open.clone())?;
    let (line, kind) = lines.next().ok_or_else(|| open.clone())?;
    let (tools, kind) =
        kind.split_once(':').ok_or_else(|| BadSuppressions::NoKind { line, text: kind.to_owned() })?;
    let is_of_leaks = kind.trim() == "Leak" && tools.split(',').any(|tool| tool.trim() == "Memcheck");
    let mut steps = Vec::new();
    loop {
        let (line, text) = lines.next().ok_or_else(|| open.clone())?;
        match text {
            "}" if !is_of_leaks => {
                to.others += 1;
                return Ok(());
            }
            "}" if steps.is_empty() => return Err(BadSuppressions::NoFrames { line }),
            "}" => break,
            _ if !is_of_leaks => {}
            // Whether a block can still be reached is not known here.
            kinds if kinds.starts_with("match-leak-kinds:") => {}
            "..." => steps.push(Step::Any),
            text => steps.push(Step::Frame(to.intern(frame(line, text)?))),
        }
    }
    let (file, name) = (file.to_owned(), name.to_owned());
    to.all.push(Suppression { file, line: begin, name, steps, is_from_innermost: true });
    Ok(())
}

fn frame(line: usize, text: &str) -> Result<Frame, BadSuppressions> {
    let text_of = || text.to_owned();
    if let Some(function) = text.strip_prefix("fun:") {
        let pattern = some(line, function)?;
        return Frame::function(pattern)
            .ok_or_else(|| BadSuppressions::Mangled { line, text: pattern.to_owned() });
    }
    if let Some(module) = text.strip_prefix("obj:") {
        return some(line, module).map(|pattern| Frame::Module(pattern.to_owned()));
    }
    let source =
        text.strip_prefix("src:").ok_or_else(|| BadSuppressions::NoFrame { line, text: text_of() })?;
    some(line, source).map(Frame::source)
}

fn some(line: usize, pattern: &str) -> Result<&str, BadSuppressions> {
    let pattern = pattern.trim();
    if pattern.is_empty() { Err(BadSuppressions::Empty { line }) } else { Ok(pattern) }
}
