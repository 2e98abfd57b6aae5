//! Finds jemalloc's arenas in a process: the version that its file names, and the array of arenas by what it looks
//! like in the library's writable memory. No symbol names it, as programs are shipped.

use super::{
    arena,
    layout::{self, Layout, MOST_ARENAS},
};
use crate::{
    allocators::{
        data::{Data, MOST_FILE, writable},
        memory::Memory,
    },
    process::{maps::Mapping, object::Object, patience::Beating},
};
use object::{ReadCache, ReadRef as _};
use std::{path::PathBuf, sync::Arc};

/// Why the arenas cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("no jemalloc version is named in {}", .0.display())]
    NoVersion(PathBuf),
    #[error("the layout of jemalloc {0} is not known (known are {known})", known = layout::KNOWN)]
    Version(String),
    #[error(
        "malloc has not been used, or jemalloc {0} was not built as usual (pages of 4 KiB, no debug build): no \
         arenas were found"
    )]
    NotFound(String),
}

/// `arenas` is aligned to a cache line, and so is each arena.
const LINE: u64 = 64;

/// Where the arenas of a process are, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub layout: Layout,
    pub arenas: Vec<(u32, u64)>,
}

/// Finds the arenas of the jemalloc in `object`.
pub fn locate(object: &Object, mappings: &[Mapping], memory: &dyn Memory) -> Result<Place, Unknown> {
    let file = Arc::clone(object.file());
    // Its file system may never answer.
    let version = object.look(move || {
        let cache = ReadCache::new(Beating(&*file));
        let text = (&cache).len().and_then(|size| (&cache).read_bytes_at(0, size.min(MOST_FILE)));
        text.ok().and_then(version_in)
    });
    let version = version.ok().flatten().ok_or_else(|| Unknown::NoVersion(object.path.clone()))?;
    let layouts: Vec<Layout> =
        layout::LAYOUTS.into_iter().filter(|layout| layout.version == version).collect();
    if layouts.is_empty() {
        return Err(Unknown::Version(version));
    }
    let data = writable(object, mappings, memory);
    let found = layouts.into_iter().find_map(|layout| {
        let arenas = data.iter().find_map(|data| arenas_in(data, &layout, memory))?;
        Some(Place { layout, arenas })
    });
    found.ok_or(Unknown::NotFound(version))
}

/// The release that the text of a file names, as 5.3.0-0-g and the commit it was made from. Commits since a release
/// are told as such: what they changed is not known.
pub fn version_in(text: &[u8]) -> Option<String> {
    const COMMIT: &[u8] = b"-g";
    let number = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let found = text.windows(COMMIT.len()).enumerate().filter(|(_, window)| *window == COMMIT);
    found.map(|(at, _)| at).find_map(|at| {
        let commit = text.get(at + 2..)?.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let before = &text[at.saturating_sub(24)..at];
        let dash = before.iter().rposition(|byte| *byte == b'-')?;
        let (release, since) = (&before[..dash], &before[dash + 1..]);
        let start = release.iter().rposition(|byte| !number(byte)).map_or(0, |other| other + 1);
        let release = std::str::from_utf8(&release[start..]).ok()?;
        let since: u32 = std::str::from_utf8(since).ok()?.parse().ok()?;
        let whole = release.split('.').filter(|part| !part.is_empty()).count() == 3
            && release.split('.').count() == 3
            && (1..=40).contains(&commit);
        whole.then(|| if since == 0 { release.to_owned() } else { format!("{release}-{since}") })
    })
}

/// The arenas that an array in `data` leads to: the first is there, and every other one is or is not.
pub fn arenas_in(data: &Data, layout: &Layout, memory: &dyn Memory) -> Option<Vec<(u32, u64)>> {
    let first = data.start.next_multiple_of(LINE);
    let end = data.start.saturating_add(data.bytes.len() as u64);
    (first..end).step_by(LINE as usize).find_map(|at| {
        let words = data.bytes(at, MOST_ARENAS * 8)?;
        let pointers = words.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
        let mut arenas = Vec::new();
        for (index, address) in (0..).zip(pointers) {
            let missing = address == 0 && index > 0;
            let is_one = || address.is_multiple_of(LINE) && arena::is_one(memory, layout, address, index);
            match missing {
                true => {}
                false if is_one() => arenas.push((index, address)),
                false => return None,
            }
        }
        Some(arenas)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_release() {
        let text = |version: &str| [b"a-g\0x-gb\0", version.as_bytes(), b"\0rest"].concat();
        let of = |version| version_in(&text(version));
        assert_eq!(of("5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c"), Some("5.3.0".into()));
        // As redis has it in its own copy.
        assert_eq!(of("5.2.1-0-g0"), Some("5.2.1".into()));
        assert_eq!(of("5.3.0-171-gc0889acb6c286c837530fdbeb96007b0dee8b776"), Some("5.3.0-171".into()));
        for other in ["5.3-0-g0", "5.3.0--g0", "5..0-0-g0", "5.3.0-0-gx", "5.3.0-0-"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(version_in(b""), None);
    }
}
