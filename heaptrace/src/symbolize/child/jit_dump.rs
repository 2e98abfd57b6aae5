//! Dumps of generated code, as `node --perf-prof` writes them (the kernel's tools/perf/Documentation/jitdump-specification.txt).
//! Of the code itself nothing is kept. A file that ends in the midst of a record is still being written.

use std::{
    collections::HashMap,
    io::{self, Read},
    ops::Range,
};

/// "JiTD", as a little-endian machine writes it.
pub const MAGIC: [u8; 4] = *b"DTiJ";

/// No larger dump is read: with the code in it, one has some ten times the bytes of a perf map.
const MAX_BYTES: u64 = 512 << 20;

/// The longest name that is kept, and the most bytes of all.
const MAX_NAME: u64 = 64 << 10;
const MAX_NAMES: usize = 64 << 20;

/// Kinds of records, and what is before a name.
const LOAD: u32 = 0;
const MOVE: u32 = 1;
const PREFIX: u64 = 16;
const LOAD_FIELDS: u64 = 40;
const MOVE_FIELDS: u64 = 48;

/// What a dump says.
#[derive(Debug, Default)]
pub struct Functions {
    /// All names.
    pub text: String,
    /// Start, end and place of the name in `text`, in the order in which they were written.
    pub places: Vec<(u64, u64, Range<usize>)>,
}

/// Reads a dump of at most so many functions from its beginning.
///
/// # Errors
/// If it is too large or cannot be read.
pub fn read(from: impl Read, most: usize) -> io::Result<Functions> {
    let from = from.take(MAX_BYTES + 1);
    let mut dump = Dump { from, most, found: Functions::default(), names: HashMap::new() };
    match dump.records() {
        // As far as it is written.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && dump.from.limit() > 0 => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(io::Error::other(format!("it has more than {} MiB", MAX_BYTES >> 20)));
        }
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    Ok(dump.found)
}

struct Dump<R> {
    from: io::Take<R>,
    most: usize,
    found: Functions,
    /// Places of names, by the number of their code.
    names: HashMap<u64, Range<usize>>,
}

impl<R: Read> Dump<R> {
    fn records(&mut self) -> io::Result<()> {
        let [_magic, _version, header] = self.words::<3>()?;
        self.skip(u64::from(header).saturating_sub(12))?;
        loop {
            let [kind, size, _, _] = self.words::<4>()?;
            let Some(body) = u64::from(size).checked_sub(PREFIX) else { return Ok(()) };
            match kind {
                LOAD if body >= LOAD_FIELDS => self.load(body - LOAD_FIELDS)?,
                MOVE if body >= MOVE_FIELDS => {
                    self.moved()?;
                    self.skip(body - MOVE_FIELDS)?;
                }
                _ => self.skip(body)?,
            }
        }
    }

    /// A function and its name, and `left` bytes behind its fields: the name and the code.
    fn load(&mut self, left: u64) -> io::Result<()> {
        let [_, _, start, size, index] = self.longs::<5>()?;
        let length = left.saturating_sub(size).min(left);
        if length > MAX_NAME {
            return self.skip(left);
        }
        let mut name = vec![0; length as usize];
        self.from.read_exact(&mut name)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let name = String::from_utf8_lossy(&name[..end]);
        let from = self.found.text.len();
        if from + name.len() > MAX_NAMES {
            return Err(io::Error::other(format!("its names have more than {} MiB", MAX_NAMES >> 20)));
        }
        if !name.is_empty() {
            self.found.text.push_str(&name);
            self.add(start, size, index, from..from + name.len())?;
        }
        self.skip(left - length)
    }

    fn moved(&mut self) -> io::Result<()> {
        let [_, _, _, to, size, index] = self.longs::<6>()?;
        let name = self.names.get(&index).cloned();
        name.map_or(Ok(()), |name| self.add(to, size, index, name))
    }

    fn add(&mut self, start: u64, size: u64, index: u64, name: Range<usize>) -> io::Result<()> {
        if self.found.places.len() == self.most {
            return Err(io::Error::other(format!("it has more than {} functions", self.most)));
        }
        self.names.insert(index, name.clone());
        self.found.places.push((start, start.saturating_add(size), name));
        Ok(())
    }

    fn words<const N: usize>(&mut self) -> io::Result<[u32; N]> {
        let mut words = [0; N];
        for word in &mut words {
            let mut bytes = [0; 4];
            self.from.read_exact(&mut bytes)?;
            *word = u32::from_le_bytes(bytes);
        }
        Ok(words)
    }

    fn longs<const N: usize>(&mut self) -> io::Result<[u64; N]> {
        let mut longs = [0; N];
        for long in &mut longs {
            let [low, high] = self.words::<2>()?;
            *long = u64::from(low) | u64::from(high) << 32;
        }
        Ok(longs)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match io::copy(&mut self.from.by_ref().take(bytes), &mut io::sink())? {
            skipped if skipped == bytes => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn longs(longs: &[u64]) -> Vec<u8> {
        longs.iter().flat_map(|long| long.to_le_bytes()).collect()
    }

    fn header() -> Vec<u8> {
        [MAGIC.to_vec(), words(&[1, 40, 62, 0, 7]), longs(&[1, 0])].concat()
    }

    fn record(kind: u32, body: &[u8]) -> Vec<u8> {
        [words(&[kind, 16 + body.len() as u32, 0, 0]), body.to_vec()].concat()
    }

    fn load(start: u64, name: &str, code: &[u8], index: u64) -> Vec<u8> {
        let fields = longs(&[0, start, start, code.len() as u64, index]);
        record(LOAD, &[&fields[..], name.as_bytes(), b"\0", code].concat())
    }

    fn names(dump: &[u8], addresses: &[u64]) -> Vec<Option<String>> {
        let Functions { text, places } = read(dump, 10).expect("a dump");
        let name = |at: &u64| {
            let place = places.iter().rfind(|(start, end, _)| (*start..*end).contains(at))?;
            Some(text[place.2.clone()].to_owned())
        };
        addresses.iter().map(name).collect()
    }

    #[test]
    fn functions_are_where_they_were_loaded_and_moved() {
        let moved = record(MOVE, &longs(&[0, 0, 0x1000, 0x3000, 3, 1]));
        let dump = [
            header(),
            load(0x1000, "JS:~f", b"abc", 1),
            record(4, b"unwinding"),
            load(0x2000, "g", b"x", 2),
            moved,
        ];
        let expected = ["JS:~f", "g", "JS:~f"].map(|name| Some(name.to_owned()));
        assert_eq!(names(&dump.concat(), &[0x1002, 0x2000, 0x3000]), expected);
        assert_eq!(names(&dump.concat(), &[0x1003]), [None]);
    }

    #[test]
    fn what_is_written_so_far_is_read() {
        let dump = [header(), load(0x1000, "f", b"abc", 1), load(0x2000, "g", b"abc", 2)].concat();
        for length in 0..dump.len() {
            let found = names(&dump[..length], &[0x1000]);
            let whole = header().len() + load(0x1000, "f", b"abc", 1).len();
            assert!(length < whole || found == [Some("f".to_owned())], "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = read(&*[header(), bytes].concat(), 10);
        }
    }
}
