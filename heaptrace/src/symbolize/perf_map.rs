//! Perf maps: the text files in which JIT compilers say where their functions are (the kernel's
//! tools/perf/Documentation/jit-interface.txt). Bad lines are skipped: the file may be half written.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// No more of a map is read: node.js writes some 10 MB in hours, and the file belongs to the traced process.
const MAX_BYTES: u64 = 256 << 20;

/// Functions of one process's generated code.
#[derive(Debug, Default)]
pub struct PerfMap {
    text: String,
    /// Start, end and place of the name in `text`; sorted by start, later lines after earlier ones.
    functions: Vec<(u64, u64, std::ops::Range<usize>)>,
}

impl PerfMap {
    /// Reads the map at `path`; `None` if it cannot be read. A link is not followed: the traced process could have
    /// made one to a file that it may not read itself.
    pub fn open(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Some(Self::parse(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Reads `START SIZE NAME` lines, numbers in hex.
    pub fn parse(text: String) -> Self {
        let mut functions = Vec::new();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            if let Some((start, end, name)) = parse_line(line) {
                let from = at + (name.as_ptr() as usize - line.as_ptr() as usize);
                functions.push((start, end, from..from + name.len()));
            }
            at += line.len();
        }
        // Stable: where a function was compiled again at the same address, the newer one stays behind.
        functions.sort_by_key(|&(start, ..)| start);
        Self { text, functions }
    }

    /// The name of the function at `address`. Of several it is the one that starts last, then the one that was
    /// written last.
    pub fn find(&self, address: u64) -> Option<&str> {
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

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (map, link) = (folder.path().join("map"), folder.path().join("link"));
        std::fs::write(&map, "1000 10 f\n").expect("write");
        std::os::unix::fs::symlink(&map, &link).expect("link");
        assert_eq!(PerfMap::open(&map).and_then(|map| map.find(0x1004).map(str::to_owned)), Some("f".into()));
        assert!(PerfMap::open(&link).is_none());
    }

    #[test]
    fn names_are_found_by_address_with_ends_excluded() {
        let map = PerfMap::parse("1000 10 first\n0x1010 8 LazyCompile:~f /a b.js:1\n".into());
        assert_eq!(map.find(0xfff), None);
        assert_eq!(map.find(0x1000), Some("first"));
        assert_eq!(map.find(0x100f), Some("first"));
        assert_eq!(map.find(0x1017), Some("LazyCompile:~f /a b.js:1"));
        assert_eq!(map.find(0x1018), None);
    }

    #[test]
    fn bad_lines_are_skipped_and_a_half_written_last_one_too() {
        let map = PerfMap::parse(
            "zz 10 bad\n\n2000\n2000 10\n3000 20  ok \r\nffffffffffffffff 2 end\n4000 1".into(),
        );
        assert_eq!(map.find(0x2000), None);
        assert_eq!(map.find(0x3001), Some("ok"));
        assert_eq!(map.find(u64::MAX), None);
        assert_eq!(map.find(0x4000), None);
    }

    #[test]
    fn code_compiled_again_at_an_address_has_its_newer_name() {
        let map = PerfMap::parse("1000 40 old\n1000 20 new\n".into());
        assert_eq!(map.find(0x1004), Some("new"));
    }
}
