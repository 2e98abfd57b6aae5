//! Entry points for fuzzing: each takes bytes that somebody else made, and must come back without a panic, in time
//! and memory in proportion. Its tests run them on mutated real inputs, `fuzz/` under libFuzzer.

use crate::{
    drain,
    file::{self, Version},
    model::{BuildId, Host, Mode, ModuleId, Start},
    probes::{
        candidate::Described,
        cut::{self, Emulation, Image, Request},
        discover, plan, search_order, symbol_cache,
        symbols::FileSymbols,
    },
    process::{
        command,
        elf::{ElfFacts, Kind, Load},
        ldso,
        mapped::{self, Change, CodeChange, Decoded},
        maps, mini_debug, stat, status,
    },
    report::{self, By, Format, Options, View},
    symbolize::{self, Answer, DebugDirs, Depth, ElfFile, Question},
    unwind::{self, FileKey, FileTable, RowKind, Store, TableKey, store::Arrays},
};
use heaptrace_common::{
    function::Shape,
    unwind::{MAX_RULES, PAGE_BITS, SHARD},
};
use rustix::fs::{MemfdFlags, memfd_create};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Seek as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicU32, AtomicU64},
    time::{Duration, Instant},
};

/// An entry point.
pub type Entry = fn(&[u8]);

/// All of them, by the names of the targets in `fuzz/`.
pub const ALL: [(&str, Entry); 19] = [
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
    ("preload", preload),
    ("mapped", mapped),
    ("unwind_cache", unwind_cache),
    ("cuts_cache", cuts_cache),
    ("debug_link", debug_link),
    ("child", child),
    ("perf_map", perf_map),
    ("answers", answers),
];

/// A record file, and every report of what could be read of it.
pub fn record(bytes: &[u8]) {
    let Ok(recording) = file::read_from(bytes) else { return };
    for view in [View::Live, View::Leaks, View::Churn, View::Alloc, View::Sizes, View::Growth, View::Rss] {
        for by in [By::Stack, By::Site, By::Module, By::Process, By::Thread] {
            render(&recording.profile, Format::Text, view, by);
        }
        for format in Format::ALL {
            render(&recording.profile, *format, view, By::Stack);
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

/// The content of a chunk, given twice in a record file that is else in order: behind the checksums. In this format, a newer
/// minor version of it, and the last one whose records had no length.
pub fn chunk(bytes: &[u8]) {
    let start = Start {
        heaptrace: String::new(),
        host: Host { kernel: String::new(), arch: String::new() },
        started_ns: 0,
        mode: Mode::Exact,
        by_thread: false,
        has_lifetimes: false,
    };
    let Version { major, minor } = Version::CURRENT;
    for version in [Version::CURRENT, Version { major, minor: minor + 1 }, Version::of_header(6)] {
        record(&file::of_contents(version, &start, &[bytes, bytes]));
    }
}

/// A file that a process maps: what it is, and where probes would go.
pub fn elf(bytes: &[u8]) {
    let _ = mini_debug::unpacked(bytes);
    let Ok(facts) = ElfFacts::parse(bytes) else { return };
    let Ok(symbols) = FileSymbols::read(bytes, &facts) else { return };
    let file = Described { path: Path::new("/fuzzed"), elf: &facts, symbols: &symbols, repeated: false };
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
    let _ = cut::one_site(image, entry, Shape::Free0, emulation);
}

/// The same file's unwind tables.
pub fn unwind(bytes: &[u8]) {
    for kind in [RowKind::Calls, RowKind::Exact] {
        let Ok(table) = FileTable::of(&bytes, kind) else { return };
        look_up(&table);
    }
}

fn look_up(table: &FileTable) {
    let start = u64::from(table.first_page()) << PAGE_BITS;
    for address in [0, start, start.saturating_add(4097), u64::MAX] {
        table.lookup(address);
    }
}

/// What a kept unwind table's file holds, behind its checksum, and where it would go in the kernel's maps.
pub fn unwind_cache(bytes: &[u8]) {
    let Some(table) = unwind::cache::of_contents(bytes) else { return };
    look_up(&table);
    let Ok(mut store) = Store::new(Plain::default()) else { return };
    let key = TableKey { file: FileKey::Vdso, rows: RowKind::Calls };
    // Whether there is room for it does not matter.
    let _ = store.insert(key, &table);
}

/// Memory as the kernel's maps have it.
struct Plain {
    rows: Vec<AtomicU32>,
    pages: Vec<AtomicU32>,
    rules: Vec<AtomicU64>,
}

impl Default for Plain {
    fn default() -> Self {
        let words = || (0..2 * SHARD).map(|_| AtomicU32::new(0)).collect();
        Self { rows: words(), pages: words(), rules: (0..MAX_RULES).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Arrays for Plain {
    fn rows(&self) -> &[AtomicU32] {
        &self.rows
    }

    fn pages(&self) -> &[AtomicU32] {
        &self.pages
    }

    fn rules(&self) -> &[AtomicU64] {
        &self.rules
    }
}

/// What a file with kept sites holds, behind its checksum, and the probes that would be placed by it.
pub fn cuts_cache(bytes: &[u8]) {
    let facts = library();
    let Some(symbols) = symbol_cache::of_contents(bytes, &[0x90; 4096], &facts) else { return };
    let file = Described { path: Path::new("/fuzzed"), elf: &facts, symbols: &symbols, repeated: false };
    plan::choose(&[file], plan::Places::OneProcess);
}

/// A file of which nothing is known but where its code is, which is longer than any file.
fn library() -> ElfFacts {
    ElfFacts {
        kind: Kind::Library,
        build_id: None,
        soname: None,
        needed: Vec::new(),
        interpreter: None,
        is_go: false,
        loads: vec![Load { address: 1 << 20, offset: 0, size: 1 << 40, executable: true }],
        entry: 0,
    }
}

/// The same file's names and lines, at addresses all over it, as the child would look for them.
pub fn symbols(bytes: &[u8]) {
    let Ok(file) = in_memory(bytes) else { return };
    let offsets = (0..64).map(|part| part * bytes.len() as u64 / 64).chain([0, u64::MAX - 2, u64::MAX - 1]);
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    ElfFile::new(&path, None, Depth::Full).names(&offsets.collect::<Vec<_>>());
}

/// A binary and its debug file, as the child would look into them: the first four bytes are the binary's length.
pub fn child(bytes: &[u8]) {
    let Some((length, files)) = bytes.split_first_chunk() else { return };
    let (binary, debug) = files.split_at((u32::from_le_bytes(*length) as usize).min(files.len()));
    let places: Vec<u64> = (0..64).map(|part| part * binary.len() as u64 / 64).collect();
    let given = |files: &[&[u8]]| -> io::Result<Vec<OwnedFd>> {
        files.iter().map(|bytes| in_memory(bytes).map(OwnedFd::from)).collect()
    };
    let questions = || -> io::Result<Vec<(Question, Vec<OwnedFd>)>> {
        Ok(vec![
            (Question::Facts, given(&[binary])?),
            (Question::Checksum, given(&[debug])?),
            (Question::Elf(Depth::Full), given(&[binary, debug])?),
            (Question::Names(places.clone()), Vec::new()),
            (Question::Elf(Depth::Tables), given(&[binary, debug])?),
            (Question::Names(places.clone()), Vec::new()),
        ])
    };
    let Ok(questions) = questions() else { return };
    ensure_names(&symbolize::answers(questions), places.len());
}

/// A perf map or a dump of generated code, and the names at addresses of all sizes.
pub fn perf_map(bytes: &[u8]) {
    let Ok(file) = in_memory(bytes) else { return };
    let places: Vec<u64> = (0..64).map(|bit| 1 << bit).chain([0, u64::MAX]).collect();
    let count = places.len();
    let questions = [(Question::PerfMap, vec![file.into()]), (Question::Names(places), Vec::new())];
    ensure_names(&symbolize::answers(questions), count);
}

/// As many lists as places, whatever was found.
fn ensure_names(answers: &[Answer], places: usize) {
    for answer in answers {
        if let Answer::Names { symbols, .. } = answer {
            assert_eq!(symbols.len(), places);
        }
    }
}

/// What a child that somebody has taken over says, and where debug files would be looked for then.
pub fn answers(bytes: &[u8]) {
    /// What a socket takes without anybody who reads it.
    const ROOM: usize = 64 << 10;
    let Ok((ours, mut theirs)) = UnixStream::pair() else { return };
    if theirs.write_all(&bytes[..bytes.len().min(ROOM)]).is_err() {
        return;
    }
    drop(theirs);
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Ok((answer, _)) = symbolize::hear::<Answer>(ours.as_fd(), Some(deadline)) {
        if let Answer::Facts(Some(facts)) = answer {
            let id = facts.build_id.map(|id| id.0);
            id.iter().chain(facts.link.iter().map(|(name, _)| name)).for_each(|bytes| debug_link(bytes));
        }
    }
}

/// The name or the build ID of a debug file: it leads nowhere but to the folders where there are such files.
pub fn debug_link(bytes: &[u8]) {
    let dirs = DebugDirs::default();
    let name = symbolize::bare_name(bytes);
    let by_name = name.map(|name| dirs.by_name(Path::new("/opt/bin/program"), name)).unwrap_or_default();
    let id = BuildId(bytes.to_vec());
    for path in by_name.into_iter().chain(dirs.by_build_id(&id)).chain(dirs.binaries(&id)) {
        let known = ["/opt/bin/", "/usr/lib/debug/", "/lib/debug/", "/usr/lib/.build-id/"];
        assert!(known.iter().any(|folder| path.starts_with(folder)), "{path:?}");
        let mut parts = path.components().skip(1);
        assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{path:?}");
    }
}

/// A file without a name.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("fuzzed", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
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
    command::parse_interpreter_line(bytes);
}

/// Lines: a linker's arguments, the content of an ld.so.preload, and a process's files, each with its soname and the names
/// of those that it needs. They are searched in an order that has each once.
pub fn preload(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (arguments, names) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let file = |line: &[u8]| {
        let line = String::from_utf8_lossy(line).into_owned();
        let mut words = line.split(' ').map(str::to_owned);
        let path = PathBuf::from(words.next().unwrap_or_default());
        let soname = words.next().filter(|name| !name.is_empty());
        (path, ElfFacts { soname, needed: words.collect(), ..library() })
    };
    let files: Vec<(PathBuf, ElfFacts)> = lines.map(file).collect();
    let files: Vec<(&Path, &ElfFacts)> = files.iter().map(|(path, facts)| (path.as_path(), facts)).collect();
    let mut preloaded = discover::split_preload(names);
    preloaded.extend(discover::preload_option(arguments).map(|name| Path::new(OsStr::from_bytes(name))));
    let mut order = search_order::resolution_order(&files, search_order::program(&files), &preloaded);
    order.sort_unstable();
    assert!(order.into_iter().eq(0..files.len()));
}

/// Records of the kernel's about a process's mappings: of each its kind, its `misc`, and the length of the rest.
pub fn mapped(mut bytes: &[u8]) {
    let mut image = drain::Image::default();
    let mut numbers = (0..).map(ModuleId);
    while let Some(([kind, misc, length], rest)) = bytes.split_first_chunk() {
        let body;
        (body, bytes) = rest.split_at(usize::from(*length).min(rest.len()));
        let decoded = mapped::decode(u32::from(*kind), u16::from(*misc) << 8, body);
        let Decoded::Change(CodeChange { change, .. }) = decoded else { continue };
        let Change::Mapped { start, end, offset, path, .. } = change else { continue };
        image.add(drain::CodeMapping { start, end, offset, module: path.and_then(|_| numbers.next()) });
        for address in [start, end.saturating_sub(1), end] {
            image.locate(address);
        }
    }
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod tests;
