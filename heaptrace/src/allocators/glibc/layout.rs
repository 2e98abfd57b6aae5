//! How glibc's malloc lays out its state, by version, on x86_64. From malloc/malloc.c and malloc/arena.c of each
//! release; `malloc_state` and tcache are the same from 2.31 to 2.41.

/// The page of x86_64.
pub const PAGE: u64 = 4096;

/// The versions whose layout is known: 2.OLDEST to 2.NEWEST.
pub const OLDEST: u32 = 31;
pub const NEWEST: u32 = 41;

/// What differs between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The version's second number.
    pub minor: u32,
    /// `sizeof (heap_info)`: 2.35 added `pagesize`, and padding.
    pub heap_info: u64,
    /// Where in `malloc_par` is how large the huge pages are that malloc is told to take (`hp_pagesize`), or 0.
    pub huge_page: Option<u64>,
    /// Offsets in `malloc_par`, to which 2.35 added three fields for huge pages.
    pub n_mmaps: u64,
    pub mmapped_mem: u64,
    pub sbrk_base: u64,
    /// Links of fastbins and tcache are masked by their place since 2.32.
    pub masks_links: bool,
    /// The key in a block that tcache holds is random since 2.34, and the tcache's address before.
    pub random_key: bool,
}

impl Layout {
    /// The layout of glibc 2.`minor`.
    pub fn of(minor: u32) -> Option<Self> {
        let huge_pages = minor >= 35;
        (OLDEST..=NEWEST).contains(&minor).then_some(Self {
            minor,
            heap_info: if huge_pages { 48 } else { 32 },
            huge_page: huge_pages.then_some(48),
            n_mmaps: if huge_pages { 60 } else { 40 },
            mmapped_mem: if huge_pages { 80 } else { 56 },
            sbrk_base: if huge_pages { 96 } else { 72 },
            masks_links: minor >= 32,
            random_key: minor >= 34,
        })
    }
}

/// Offsets in `malloc_state`.
pub mod state {
    /// A lock of four bytes, and as many of flags behind it.
    pub const FLAGS: u64 = 0;
    /// In the word: `NONCONTIGUOUS_BIT`, where the main arena's memory is not the break's, or not the break's alone.
    pub const NONCONTIGUOUS: u64 = 2 << 32;
    pub const FASTBINS: u64 = 16;
    pub const FASTBIN_COUNT: u64 = 10;
    pub const TOP: u64 = 96;
    /// Bin 1, the unsorted one, is addressed as if it were a block: its links are where a block's would be.
    pub const UNSORTED: u64 = 96;
    pub const BINS: u64 = 112;
    pub const BIN_COUNT: u64 = 127;
    pub const NEXT: u64 = 2160;
    pub const ATTACHED: u64 = 2176;
    pub const SYSTEM: u64 = 2184;
    pub const MOST_SYSTEM: u64 = 2192;
    pub const SIZE: u64 = 2200;
}

/// The second number of the glibc version that the text of a libc file names in its banner.
pub fn version_in(text: &[u8]) -> Option<u32> {
    const BANNER: &[u8] = b"GNU C Library (";
    const VERSION: &[u8] = b"release version 2.";
    let banner = find(text, BANNER)?;
    // The whole banner is a screenful; its first line holds the version.
    let line = text.get(banner..)?.get(..256.min(text.len() - banner))?;
    let number = line.get(find(line, VERSION)? + VERSION.len()..)?;
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&number[..digits]).ok()?.parse().ok()
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_banner() {
        let banner =
            b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\nCopyright";
        assert_eq!(version_in(banner), Some(36));
        assert_eq!(
            version_in(b"GNU C Library (GNU libc) development release version 2.39.9000.\n"),
            Some(39)
        );
        assert_eq!(version_in(b"GNU C Library (cut"), None);
        assert_eq!(version_in(b""), None);
    }

    #[test]
    fn unknown_versions_have_no_layout() {
        assert_eq!(Layout::of(30), None);
        assert_eq!(Layout::of(42), None);
        let (old, new) = (Layout::of(31).expect("2.31"), Layout::of(36).expect("2.36"));
        assert_eq!((old.heap_info, old.sbrk_base, old.masks_links, old.random_key), (32, 72, false, false));
        assert_eq!((new.heap_info, new.sbrk_base, new.masks_links, new.random_key), (48, 96, true, true));
    }
}
