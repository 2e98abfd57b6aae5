//! Entry points for fuzzing: each takes bytes that somebody else made, and must come back without a panic, in time
//! and memory in proportion. Its tests run them on mutated real inputs, `fuzz/` under libFuzzer.

use crate::{
    file,
    model::{Host, Mode, Start},
    probes::{
        cut::{self, Emulation, Image, Request},
        plan::{self, Described},
        search_order,
        symbols::FileSymbols,
    },
    process::{elf::ElfFacts, ldso, maps, stat, status},
    report::{self, By, Format, Options, View},
    symbolize::{Depth, ElfFile},
    unwind::{FileTable, RowKind},
};
use heaptrace_common::function::Shape;
use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _},
    path::{Path, PathBuf},
};

/// An entry point.
pub type Entry = fn(&[u8]);

/// All of them, by the names of the targets in `fuzz/`.
pub const ALL: [(&str, Entry); 11] = [
    ("record", record),
    ("chunk", chunk),
    ("elf", elf),
    ("cuts", cuts),
    ("code", code),
    ("unwind", unwind),
    ("symbols", symbols),
    ("maps", maps),
    ("stat", stat),
    ("status", status),
    ("ldso", ldso),
];

/// A record file, and every report of what could be read of it.
pub fn record(bytes: &[u8]) {
    let Ok(recording) = file::read_from(bytes) else { return };
    for view in [View::Live, View::Alloc, View::Sizes, View::Growth, View::Rss] {
        for by in [By::Stack, By::Site, By::Module, By::Process] {
            render(&recording.profile, Format::Text, view, by);
        }
        for format in [Format::Folded, Format::Svg, Format::Json] {
            render(&recording.profile, format, view, By::Stack);
        }
    }
}

fn render(profile: &crate::model::Profile, format: Format, view: View, by: By) {
    let options = Options { view, by, memory: Some(16 << 20), ..Options::default() };
    // As `report` does, which leaves off then.
    if report::expansion(format, profile, &options) > 1 << 28 {
        return;
    }
    // An svg without any stack is an error, and writing to nowhere fails never.
    let _ = report::render(format, profile, &options, &mut io::sink());
}

/// The content of a chunk, given twice in a record file that is else in order: behind the checksums.
pub fn chunk(bytes: &[u8]) {
    let start = Start {
        heaptrace: String::new(),
        host: Host { kernel: String::new(), arch: String::new() },
        started_ns: 0,
        mode: Mode::Exact,
    };
    // It has nothing that could not be encoded.
    let start = postcard::to_stdvec(&start).unwrap_or_default();
    record(&file::of_contents(&start, &[bytes, bytes]));
}

/// A file that a process maps: what it is, and where probes would go.
pub fn elf(bytes: &[u8]) {
    let Ok(facts) = ElfFacts::parse(bytes) else { return };
    let Ok(symbols) = FileSymbols::read(bytes, &facts) else { return };
    let file = Described { path: Path::new("/fuzzed"), elf: &facts, symbols: &symbols };
    plan::choose(&[file], plan::Places::OneProcess);
    search_order::resolution_order(&[(file.path, &facts)], 0, &[file.path]);
}

/// The same file's functions, whatever they are, as if they allocated or freed.
pub fn cuts(bytes: &[u8]) {
    let Ok(facts) = ElfFacts::parse(bytes) else { return };
    let Some(image) = Image::new(bytes, &facts) else { return };
    let entries: Vec<u64> = image.entries().take(6).chain([facts.entry]).collect();
    entries.iter().for_each(|entry| analyse(&image, *entry, &entries));
}

/// Bytes as the code of two functions, of which the first byte tells how long the first is.
pub fn code(bytes: &[u8]) {
    let Some((first, code)) = bytes.split_first() else { return };
    let (start, end) = (0x1000, 0x1000 + code.len() as u64);
    let middle = end.min(start + 4 * u64::from(*first));
    for spans in [&[start..middle, middle..end][..], &[]] {
        analyse(&Image::of_code(start, code, spans), start, &[start, middle]);
    }
}

fn analyse(image: &Image<'_>, entry: u64, probed: &[u64]) {
    let emulation = Emulation { push: true, long_nops: true };
    for shape in [Shape::Size0, Shape::Product01, Shape::Resize, Shape::OutPointer] {
        // Only that it comes back counts.
        let _ = cut::analyse(image, &Request { entry, shape, probed, emulation });
    }
    let _ = cut::free_site(image, entry, emulation);
}

/// The same file's unwind tables.
pub fn unwind(bytes: &[u8]) {
    for kind in [RowKind::Calls, RowKind::Exact] {
        let Ok(table) = FileTable::of(&bytes, kind) else { return };
        let start = u64::from(table.first_page()) << heaptrace_common::unwind::PAGE_BITS;
        for address in [0, start, start.saturating_add(4097), u64::MAX] {
            table.lookup(address);
        }
    }
}

/// The same file's names and lines, at addresses all over it, as the child would look for them.
pub fn symbols(bytes: &[u8]) {
    let Ok(file) = in_memory(bytes) else { return };
    let offsets = (0..64).map(|part| part * bytes.len() as u64 / 64).chain([0, u64::MAX - 2, u64::MAX - 1]);
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    ElfFile::new(&path, None, Depth::Full).names(&offsets.collect::<Vec<_>>());
}

/// A file without a name.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    // SAFETY: a NUL-terminated name; the descriptor that it gives is nobody else's.
    let mut file = unsafe {
        match libc::memfd_create(c"fuzzed".as_ptr(), libc::MFD_CLOEXEC) {
            -1 => return Err(io::Error::last_os_error()),
            fd => File::from_raw_fd(fd),
        }
    };
    file.write_all(bytes)?;
    Ok(file)
}

/// /proc/PID/maps.
pub fn maps(bytes: &[u8]) {
    for mapping in maps::parse(bytes) {
        mapping.file();
    }
}

/// /proc/PID/stat.
pub fn stat(bytes: &[u8]) {
    stat::parse(bytes);
}

/// /proc/PID/status.
pub fn status(bytes: &[u8]) {
    status::parse(bytes);
}

/// What a dynamic linker lists, and the first line of a script.
pub fn ldso(bytes: &[u8]) {
    ldso::parse_list(bytes);
    ldso::parse_interpreter_line(bytes);
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod tests;
