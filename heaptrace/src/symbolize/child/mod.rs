//! The child that looks into files for names. Their content is others', and what reads it is a library that may hang,
//! take all memory or crash over it: so it runs in a process that has nothing to lose, and that is killed and started
//! again by its parent (`worker.rs`).
//!
//! It gets open descriptors and can open nothing: see `seccomp.rs`.

mod elf;
mod guard;
mod jit_dump;
mod perf_map;
mod sandbox;
mod seccomp;
mod tables;

pub use elf::ElfFile;

use super::wire::{Answer, MAX_NAME_BYTES, MAX_PLACES, MAX_SYMBOLS, Question, hear, tell};
use crate::model::Symbol;
use perf_map::PerfMap;
use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::PathBuf,
};

/// The most bytes of one name or path; what is longer is cut. C++ has names of some 10,000.
const MAX_NAME: usize = 64 << 10;

/// Answers the questions that come over standard input, which is a socket, until its other side is closed.
///
/// # Errors
/// If what comes is no question, or the other side is gone in the middle of one.
pub fn serve() -> io::Result<()> {
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    let mut subject = Subject::None;
    let mut begun = false;
    loop {
        let (question, files) = match hear(socket, None) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            question => question?,
        };
        let answer = match question {
            Question::Begin(limits) if !begun => {
                begun = true;
                sandbox::enter(limits).map_or_else(Answer::Refused, |()| Answer::Ready)
            }
            question => answer(question, files, &mut subject),
        };
        tell(socket, &answer, &[])?;
    }
}

/// What the child answers to these questions, one after the other; without its limits, and in this process.
pub(crate) fn answers(questions: impl IntoIterator<Item = (Question, Vec<OwnedFd>)>) -> Vec<Answer> {
    let mut subject = Subject::None;
    questions.into_iter().map(|(question, files)| answer(question, files, &mut subject)).collect()
}

/// What names are asked of. Holds the descriptors open that its paths lead through.
enum Subject {
    None,
    Elf { file: Box<ElfFile>, _open: Vec<OwnedFd> },
    PerfMap(PerfMap),
}

fn answer(question: Question, files: Vec<OwnedFd>, subject: &mut Subject) -> Answer {
    let nothing = || Answer::Refused("a question without its file".to_owned());
    match question {
        Question::Begin(_) => Answer::Refused("begun already".to_owned()),
        Question::Facts => match files.first() {
            Some(file) => Answer::Facts(elf::facts(&path_of(file))),
            None => nothing(),
        },
        Question::Checksum => match files.into_iter().next() {
            Some(file) => {
                checksum(file).map_or_else(|error| Answer::Refused(error.to_string()), Answer::Checksum)
            }
            None => nothing(),
        },
        Question::Elf(depth) => {
            // The one before is closed first: memory is that of the largest, not of all.
            *subject = Subject::None;
            let Some(binary) = files.first() else { return nothing() };
            let debug = files.get(1).map(path_of);
            *subject = Subject::Elf {
                file: Box::new(ElfFile::new(&path_of(binary), debug.as_deref(), depth)),
                _open: files,
            };
            Answer::Ready
        }
        Question::PerfMap => {
            *subject = Subject::None;
            let Some(file) = files.into_iter().next() else { return nothing() };
            match PerfMap::read(File::from(file)) {
                Ok(map) => {
                    *subject = Subject::PerfMap(map);
                    Answer::Ready
                }
                Err(error) => Answer::Refused(error.to_string()),
            }
        }
        Question::Names(places) if places.len() > MAX_PLACES => Answer::Refused("too many places".to_owned()),
        Question::Names(places) => {
            let symbols = match subject {
                Subject::None => vec![Vec::new(); places.len()],
                Subject::Elf { file, .. } => file.names(&places),
                Subject::PerfMap(map) => places.iter().map(|place| map.symbols(*place)).collect(),
            };
            bounded(symbols)
        }
    }
}

/// How the file is opened again by a library that takes paths.
fn path_of(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("{}{}", seccomp::DESCRIPTORS, file.as_raw_fd()))
}

fn checksum(file: OwnedFd) -> io::Result<u32> {
    let mut file = File::from(file);
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// An answer that fits into a message, and whose lists fit into a recording.
fn bounded(mut symbols: Vec<Vec<Symbol>>) -> Answer {
    let (mut bytes, mut cut) = (0, false);
    for list in &mut symbols {
        if list.len() > MAX_SYMBOLS {
            cut = true;
            // The last is the function itself.
            list.drain(MAX_SYMBOLS - 1..list.len() - 1);
        }
        for symbol in list.iter_mut() {
            for text in [Some(&mut symbol.name), symbol.file.as_mut()].into_iter().flatten() {
                if text.len() > MAX_NAME {
                    cut = true;
                    let end = (0..=MAX_NAME).rev().find(|end| text.is_char_boundary(*end));
                    text.truncate(end.unwrap_or_default());
                }
            }
        }
        let long = |symbol: &Symbol| symbol.name.len() + symbol.file.as_ref().map_or(0, String::len) + 16;
        bytes += list.iter().map(long).sum::<usize>();
        if bytes > MAX_NAME_BYTES {
            cut = true;
            list.clear();
        }
    }
    Answer::Names { symbols, cut }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// No test: what the tests of this crate start as the child, as `heaptrace` itself is not there.
    #[test]
    #[ignore = "is started by other tests"]
    fn serves() {
        serve().expect("questions");
    }

    #[test]
    fn an_answer_fits_whatever_the_names_are() {
        let symbol = |name: &str| Symbol { name: name.into(), file: None, line: None, inlined: true };
        let mut deep = vec![symbol("inlined"); 2 * MAX_SYMBOLS];
        deep.push(symbol("itself"));
        let long = vec![symbol(&"é".repeat(MAX_NAME))];
        let Answer::Names { symbols, cut: true } = bounded(vec![deep, long.clone()]) else { panic!("cut") };
        assert_eq!(symbols[0].len(), MAX_SYMBOLS);
        assert_eq!(symbols[0].last().map(|symbol| symbol.name.as_str()), Some("itself"));
        assert_eq!(symbols[1][0].name.len(), MAX_NAME);
        let Answer::Names { symbols, cut: true } = bounded(vec![long; MAX_PLACES]) else { panic!("cut") };
        assert!(!symbols[0].is_empty() && symbols[MAX_PLACES - 1].is_empty());
        let few = vec![vec![symbol("f")], vec![]];
        assert!(matches!(bounded(few.clone()), Answer::Names { symbols, cut: false } if symbols == few));
    }
}
