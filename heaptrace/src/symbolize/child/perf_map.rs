//! Perf maps: the text files in which JIT compilers say where their functions are (the kernel's
//! tools/perf/Documentation/jit-interface.txt), and dumps, which say the same and more (jitdump-specification.txt, in
//! `jit_dump.rs`). Bad lines are skipped: the file may be half written.

use super::jit_dump;
use crate::model::Symbol;
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
};

/// No larger map is read: node.js writes some 10 MB in hours.
const MAX_BYTES: u64 = 64 << 20;

/// No more functions are kept: 48 bytes each, beside the text.
const MAX_FUNCTIONS: usize = 2 << 20;

/// Functions of one process's generated code.
#[derive(Debug, Default)]
pub struct PerfMap {
    text: String,
    /// Start, end and place of the name in `text`; sorted by start, later lines after earlier ones.
    functions: Vec<(u64, u64, std::ops::Range<usize>)>,
}

impl PerfMap {
    /// Reads a map. Not a part of a large one: what is at its end is newer, and may be of the same addresses.
    ///
    /// # Errors
    /// If it is too large or cannot be read.
    pub fn read(file: File) -> io::Result<Self> {
        let mut file = BufReader::new(file);
        if file.fill_buf()?.starts_with(&jit_dump::MAGIC) {
            let jit_dump::Functions { text, places } = jit_dump::read(file, MAX_FUNCTIONS)?;
            return Ok(Self::of(text, places));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("it has more than {} MiB", MAX_BYTES >> 20)));
        }
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Self::parse(text)
            .ok_or_else(|| io::Error::other(format!("it has more than {MAX_FUNCTIONS} functions")))
    }

    /// Reads `START SIZE NAME` lines, numbers in hex; `None` if there are too many.
    pub fn parse(text: String) -> Option<Self> {
        let mut functions = Vec::new();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            if let Some((start, end, name)) = parse_line(line) {
                if functions.len() == MAX_FUNCTIONS {
                    return None;
                }
                let from = at + (name.as_ptr() as usize - line.as_ptr() as usize);
                functions.push((start, end, from..from + name.len()));
            }
            at += line.len();
        }
        Some(Self::of(text, functions))
    }

    fn of(text: String, mut functions: Vec<(u64, u64, std::ops::Range<usize>)>) -> Self {
        // Stable: where a function was compiled again at the same address, the newer one stays behind.
        functions.sort_by_key(|&(start, ..)| start);
        Self { text, functions }
    }

    /// The symbols at `address`: one or none.
    pub fn symbols(&self, address: u64) -> Vec<Symbol> {
        let symbol = |name: &str| Symbol { name: name.into(), file: None, line: None, inlined: false };
        self.find(address).map(symbol).into_iter().collect()
    }

    /// The name of the function at `address`. Of several it is the one that starts last, then the one that was
    /// written last.
    fn find(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|&(start, ..)| start <= address);
        let (_, end, name) = self.functions[..after].last()?;
        (address < *end).then(|| &self.text[name.clone()])
    }
}

fn parse_line(line: &str) -> Option<(u64, u64, &str)> {
    let (start, rest) = line.trim().split_once(char::is_whitespace)?;
    let (size, name) = rest.trim_start().split_once(char::is_whitespace)?;
    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok();
    let (start, size, name) = (hex(start)?, hex(size)?, name.trim());
    (!name.is_empty()).then_some((start, start.saturating_add(size), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> PerfMap {
        PerfMap::parse(text.into()).expect("few functions")
    }

    #[test]
    fn a_map_that_is_too_large_is_not_read_in_part() {
        let file = tempfile::tempfile().expect("file");
        file.set_len(MAX_BYTES + 1).expect("size");
        assert!(PerfMap::read(file).expect_err("too large").to_string().contains("64 MiB"));
        assert!(PerfMap::parse("1 1 f\n".repeat(MAX_FUNCTIONS + 1)).is_none());
    }

    #[test]
    fn names_are_found_by_address_with_ends_excluded() {
        let map = parse("1000 10 first\n0x1010 8 LazyCompile:~f /a b.js:1\n");
        assert_eq!(map.find(0xfff), None);
        assert_eq!(map.find(0x1000), Some("first"));
        assert_eq!(map.find(0x100f), Some("first"));
        assert_eq!(map.find(0x1017), Some("LazyCompile:~f /a b.js:1"));
        assert_eq!(map.find(0x1018), None);
    }

    #[test]
    fn bad_lines_are_skipped_and_a_half_written_last_one_too() {
        let map = parse("zz 10 bad\n\n2000\n2000 10\n3000 20  ok \r\nffffffffffffffff 2 end\n4000 1");
        assert_eq!(map.find(0x2000), None);
        assert_eq!(map.find(0x3001), Some("ok"));
        assert_eq!(map.find(u64::MAX), None);
        assert_eq!(map.find(0x4000), None);
    }

    #[test]
    fn code_compiled_again_at_an_address_has_its_newer_name() {
        let map = parse("1000 40 old\n1000 20 new\n");
        assert_eq!(map.find(0x1004), Some("new"));
    }
}
