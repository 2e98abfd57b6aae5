//! Recordings that are made to fill the memory of who reads them. Each is reported on in a process of its own, whose
//! peak is held against the size of the file.

use super::{
    MAGIC, Recording, Source, Version,
    tests::{block, encode},
    wire::{Bad, Reader, Wire, Writer},
};
use crate::commands::{
    debug_args::DebugArgs,
    frame_args::FrameArgs,
    ignore_args::IgnoreArgs,
    parts::{PartArgs, When},
    report::{ReportArgs, Shown, most_expanded, run},
    threshold_args::ThresholdArgs,
    verbose::VerboseArgs,
};
use crate::fixtures::profiles::start;
use crate::model::{
    AllocatorInfo, Chunk, Coverage, Frame, FrameId, LifetimeHistogram, Location, LocationId, Note, Process,
    ProcessId, Residency, Site, SiteId, SizeHistogram, Stack, StackId, Symbol, Totals, Untraceable,
};
use crate::report::{self, By, Format, Options, View};
use crate::walk::{Action, App, Shape, screen};
use heaptrace_common::{function::Function, stack::StackEnd};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Where the process of its own finds the recording.
const RECORDING: &str = "HEAPTRACE_TEST_RECORDING";

/// What it says its peak with.
const PEAK: &str = "peak of this much: ";

/// Bytes that no compression makes smaller.
fn noise(length: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + (state >> 32) as u8 % 95)
    };
    (0..length).map(|_| next()).collect()
}

/// A block of `content`, as small as a block of that much may be.
fn packed(kind: u8, content: &impl Wire) -> Vec<u8> {
    let content = encode(content);
    let stored = zstd::bulk::compress(&content, 19).expect("compress");
    block(kind, 1, &stored, content.len())
}

fn file(blocks: &[Vec<u8>]) -> Vec<u8> {
    let start = encode(&start());
    let start = block(1, 0, &start, start.len());
    [&MAGIC[..], &Version::CURRENT.major.to_le_bytes(), &start, &blocks.concat(), &block(3, 0, &[], 0)]
        .concat()
}

/// One process, and so much noise that a content of `length` may be compressed to it.
fn begun(length: usize) -> Chunk {
    let notes = [Note::Told { text: noise(length / 200) }].into_iter().collect();
    Chunk {
        processes: vec![(ProcessId(0), Process { pid: 1, ..Process::default() })],
        coverage: Coverage { events: 1, notes, ..Coverage::default() },
        ..Chunk::default()
    }
}

/// What a chunk is written as, with so many more notes as no recorder writes: the same, and equal ones.
struct WithEmptyNotes(Chunk, usize);

impl Wire for WithEmptyNotes {
    fn write(&self, to: &mut Writer) {
        let Self(chunk, more) = self;
        let kept = chunk.coverage.notes.kinds().iter().flat_map(|cases| cases.kept());
        let told = kept.filter_map(|note| match note {
            Note::Told { text } => Some(text.clone()),
            _ => None,
        });
        let mut notes: Vec<String> = told.collect();
        notes.resize(notes.len() + more, String::new());
        let zeros = |count: usize, to: &mut Writer| (0..count).for_each(|_| 0_u64.write(to));
        to.record(|to| {
            chunk.duration_ns.write(to);
            chunk.passed_ns.write(to);
            to.record(|to| {
                chunk.coverage.events.write(to);
                to.record(|to| zeros(9, to));
                zeros(4, to);
                Vec::<Untraceable>::new().write(to);
                None::<u64>.write(to);
                false.write(to);
                notes.write(to);
            });
            chunk.processes.write(to);
            chunk.modules.write(to);
            chunk.locations.write(to);
            chunk.symbols.write(to);
            chunk.frames.write(to);
            chunk.stacks.write(to);
            chunk.sites.write(to);
            chunk.growth.write(to);
        });
    }

    fn read(_: &mut Reader<'_>) -> Result<Self, Bad> {
        Err(Bad::Ends)
    }
}

fn site(process: u32, stack: u32) -> Site {
    Site {
        process: ProcessId(process),
        stack: StackId(stack),
        function: Function::Malloc,
        totals: Totals { alloc_bytes: 8, alloc_count: 1, ..Totals::default() },
        oldest_age_ns: None,
        sizes: SizeHistogram::default(),
        samples: None,
        thread: None,
        lifetimes: LifetimeHistogram::default(),
    }
}

/// Places that have 256 functions each with `name`, all the same, and stacks of 1,024 of them.
fn deep(stacks: u32, name: &str) -> Chunk {
    let symbol = Symbol { name: name.into(), file: None, line: None, inlined: true };
    let frames = vec![FrameId(0); 1_024];
    Chunk {
        locations: vec![Location::Unmapped { process: ProcessId(0), address: 1 }],
        symbols: vec![(LocationId(0), vec![symbol; 256])],
        frames: vec![Frame { address: 1, location: LocationId(0) }],
        stacks: vec![Stack { frames, end: StackEnd::Complete }; stacks as usize],
        ..begun(0)
    }
}

/// Reports on it in every way, and gives the peak of a process that does, less what such a process has anyway.
fn peak(recording: &[u8]) -> u64 {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("heaptrace.data");
    fs::write(&path, recording).expect("write");
    let own = std::env::current_exe().expect("this test");
    let ran = Command::new(own)
        .args([
            "--exact",
            "file::memory_tests::every_report_of_the_recording_given",
            "--ignored",
            "--nocapture",
        ])
        .env(RECORDING, &path)
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let peak = said.lines().find_map(|line| line.split_once(PEAK)?.1.trim().parse().ok());
    peak.unwrap_or_else(|| panic!("{}: {said}{}", ran.status, String::from_utf8_lossy(&ran.stderr)))
}

/// In bytes, by the kernel's count.
fn memory(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[test]
#[ignore = "it is run by the others, each time in a process of its own"]
fn every_report_of_the_recording_given() {
    let file = std::env::var_os(RECORDING).expect("the path of a recording");
    let before = memory("VmRSS:");
    let dir = TempDir::new().expect("directory");
    let report = |format, view, by, part| {
        let view = Some(view);
        let output = dir.path().join("report").into();
        let file = file.clone().into();
        // What it is refused for is not looked at here.
        let verbose = VerboseArgs::default();
        let format = Some(format);
        run(
            ReportArgs {
                file,
                view,
                by,
                format,
                output,
                open: false,
                tui: false,
                inverted: false,
                pid: None,
                min_bytes: 0,
                percent_limit: 0,
                hints: false,
                part,
                frames: FrameArgs::default(),
                debug: DebugArgs::default(),
                ignore: IgnoreArgs::default(),
                thresholds: ThresholdArgs::default(),
                raw: crate::commands::raw_args::RawArgs::default(),
                verbose,
            },
            None,
        )
        .map_err(|error| println!("{format:?}, {view:?}, {by:?}: {error:#}"))
    };
    let (alloc, all) = (Shown::View(View::Alloc), PartArgs::default);
    for by in [By::Stack, By::Site, By::Process] {
        let _ = report(Format::Text, alloc, by, all());
    }
    let _ = report(Format::Text, Shown::View(View::Rss), By::Stack, all());
    let _ = report(Format::Text, Shown::View(View::Leaks), By::Stack, all());
    let _ = report(Format::Text, Shown::View(View::Churn), By::Stack, all());
    for format in Format::ALL {
        let _ = report(*format, alloc, By::Stack, all());
    }
    let _ = report(Format::Folded, Shown::Peak, By::Stack, all());
    let since = PartArgs { from: Some(When::Time(Duration::from_secs(1))), ..all() };
    let _ = report(Format::Folded, alloc, By::Stack, since);
    walk(Path::new(&file));
    println!("{PEAK}{}", memory("VmHWM:") - before);
}

/// The same on the terminal, with all of the tree opened.
fn walk(file: &Path) {
    let read = Source::open(file).and_then(|mut source| source.read(&mut |_, _| ControlFlow::Continue(())));
    let Ok(Recording { profile, size, room, .. }) = read else { return };
    let options = Options { view: View::Alloc, memory: Some(room), ..Options::default() };
    if report::expansion(Format::Csv, &profile, &options) > most_expanded(size) {
        return;
    }
    let table = report::walk(&profile, &options, "x");
    drop(profile);
    let mut app = App::new(table, Shape::default(), screen((80, 24)));
    for action in
        [Action::OpenAll, Action::Search, Action::Type('f'), Action::Enter, Action::Group, Action::Group]
    {
        app.apply(action);
    }
    app.apply(Action::OpenAll);
}

#[track_caller]
fn assert_bounded(what: &str, recording: &[u8]) {
    let (peak, size) = (peak(recording), recording.len() as u64);
    println!("{what}: {size} bytes took {} MB", peak >> 20);
    // The rest of 96 MB is what the process has anyway.
    let most = 20 * size + (88 << 20);
    assert!(peak <= most, "{what}: {size} bytes took {peak}, more than {most}");
}

#[test]
fn elements_of_a_byte_do_not_become_gigabytes() {
    let many = 40_000_000;
    assert_bounded("empty notes", &file(&[packed(2, &WithEmptyNotes(begun(many), many))]));

    let symbol = Symbol { name: String::new(), file: None, line: None, inlined: false };
    let symbols = Chunk {
        locations: vec![Location::Unmapped { process: ProcessId(0), address: 1 }],
        symbols: vec![(LocationId(0), vec![symbol; 200]); 20_000],
        ..begun(many / 2)
    };
    assert_bounded("empty symbols, each time of one place", &file(&[packed(2, &symbols)]));

    let allocator = AllocatorInfo { kind: String::new(), path: String::new() };
    let mut allocators = begun(many / 2);
    allocators.processes[0].1.allocators = vec![allocator; many / 4];
    assert_bounded("allocators", &file(&[packed(2, &allocators)]));

    let untraceable = Untraceable { pid: 1, comm: "x".into(), reason: String::new() };
    let mut left_out = begun(many / 2);
    left_out.coverage.untraceable = vec![untraceable; many / 8];
    assert_bounded("processes left out", &file(&[packed(2, &left_out)]));
}

#[test]
fn small_blocks_do_not_add_up_to_gigabytes() {
    let mut chunk = begun(0);
    let more = Chunk {
        locations: vec![Location::Unmapped { process: ProcessId(0), address: 1 }; 300_000],
        ..begun(0)
    };
    chunk.processes[0].1.comm = "many places".into();
    let blocks = [vec![packed(2, &chunk)], vec![packed(2, &more); 40]].concat();
    assert_bounded("places", &file(&blocks));

    let measured = vec![(ProcessId(0), Residency::default()); 2_000];
    let blocks = [vec![packed(2, &chunk)], vec![packed(4, &measured); 1]].concat();
    assert_bounded("measurements", &file(&blocks));

    let sites: Vec<_> = (0..40_000).map(|n| (SiteId(n), site(0, 0))).collect();
    let more = Chunk { sites, ..begun(0) };
    let blocks = [vec![packed(2, &deep(1, "f"))], vec![packed(2, &more); 3]].concat();
    assert_bounded("the same sites again and again", &file(&blocks));
}

#[test]
fn stacks_that_many_sites_share_are_not_held_for_each() {
    let processes = |count: u32, chunk: Chunk| Chunk {
        processes: (0..count)
            .map(|n| (ProcessId(n), Process { pid: n + 1, comm: "x".into(), ..Process::default() }))
            .collect(),
        sites: (0..count).map(|n| (SiteId(n), site(n, 0))).collect(),
        ..chunk
    };
    assert_bounded("a stack of 262,144 functions", &file(&[packed(2, &processes(8, deep(1, "f")))]));
    let long = "long name ".repeat(100);
    assert_bounded("long names in it", &file(&[packed(2, &processes(500, deep(1, &long)))]));
    let sites = (0..20_000).map(|n| (SiteId(n), site(0, n))).collect();
    let frames = vec![FrameId(0); 127];
    let stacks = vec![Stack { frames, end: StackEnd::Complete }; 20_000];
    assert_bounded("equal stacks", &file(&[packed(2, &Chunk { sites, stacks, ..deep(1, "f") })]));
}

#[test]
fn rows_and_names_of_their_own_are_bounded() {
    let count = 40_000_u32;
    let rows = Chunk {
        duration_ns: 1_000_000_000,
        locations: (0..count)
            .map(|n| Location::Unmapped { process: ProcessId(0), address: n.into() })
            .collect(),
        frames: (0..count).map(|n| Frame { address: 1, location: LocationId(n) }).collect(),
        stacks: (0..count).map(|n| Stack { frames: vec![FrameId(n)], end: StackEnd::Complete }).collect(),
        sites: (0..count).map(|n| (SiteId(n), site(0, n))).collect(),
        ..begun(0)
    };
    let later = Chunk { duration_ns: 2_000_000_000, ..begun(0) };
    assert_bounded("a row for each site", &file(&[packed(2, &rows), packed(2, &later)]));
    let processes = Chunk {
        processes: (0..count)
            .map(|pid| {
                let process = Process {
                    pid,
                    attach_gap_ns: Some(1),
                    lost_count: 1,
                    missed_frees: 1,
                    failed_count: 1,
                    inherited_count: 1,
                    ..Process::default()
                };
                (ProcessId(pid), process)
            })
            .collect(),
        ..begun(0)
    };
    assert_bounded("processes with a lot to say of", &file(&[packed(2, &processes)]));
}

#[test]
fn what_was_whole_before_too_much_is_reported() {
    let chunk = WithEmptyNotes(begun(40_000_000), 40_000_000);
    let recording = file(&[packed(2, &begun(0)), packed(2, &chunk)]);
    let read = super::read_from(&*recording).expect("the first chunk");
    assert_eq!(read.profile.processes.len(), 1);
    let why = read.cut.expect("cut").why;
    assert!(why.starts_with("what it holds would take more memory than a recording may: 20 bytes"), "{why}");
    assert!(!read.complete);

    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("bomb.data");
    fs::write(&path, file(&[packed(2, &chunk)])).expect("write");
    let error = report_error(&path);
    assert!(error.contains("bomb.data: corrupt: block 1 at offset"), "{error}");
    assert!(error.contains("what it holds would take more memory"), "{error}");
}

#[test]
fn a_report_that_would_not_end_is_refused_with_the_name_of_the_file() {
    let sites = (0..20_000).map(|n| (SiteId(n), site(0, 0))).collect();
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("endless.data");
    fs::write(&path, file(&[packed(2, &Chunk { sites, ..deep(1, "f") })])).expect("write");
    let error = report_error(&path);
    assert!(error.contains("failed to report on ") && error.contains("endless.data: its stacks"), "{error}");
}

fn report_error(path: &Path) -> String {
    let output = path.with_extension("report").into();
    let (file, view, by) = (path.to_owned(), View::Alloc, By::Stack);
    let args = ReportArgs {
        file,
        view: Some(Shown::View(view)),
        by,
        format: Some(Format::Json),
        output,
        open: false,
        tui: false,
        inverted: false,
        pid: None,
        min_bytes: 0,
        percent_limit: 0,
        part: PartArgs::default(),
        hints: false,
        frames: FrameArgs::default(),
        debug: DebugArgs::default(),
        ignore: IgnoreArgs::default(),
        thresholds: ThresholdArgs::default(),
        raw: crate::commands::raw_args::RawArgs::default(),
        verbose: VerboseArgs::default(),
    };
    format!("{:#}", run(args, None).expect_err("refused"))
}
