//! Record files whole, cut, damaged and hostile.

use super::wire::Wire;
use super::*;
use crate::fixtures::profiles::{chunk, full, start, threaded};
use crate::model::{
    Chunk, GrowthId, Location, LocationId, Names, Note, Notes, Process, ProcessId, Profile, Site, SiteId,
    Start, Symbol,
};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

#[path = "format_tests.rs"]
mod formats;
#[path = "measurement_tests.rs"]
mod measurements;

pub(super) fn encode(content: &impl Wire) -> Vec<u8> {
    wire::content(Version::CURRENT, content)
}

/// A finished file of three chunks: everything, a changed site and a new one, and a later symbol.
fn chunks() -> Vec<Chunk> {
    let first = chunk(&full());
    let site = |n: u32, bytes| {
        let Site { mut totals, .. } = first.sites[n as usize].1.clone();
        totals.alloc_bytes += bytes;
        Site { totals, ..first.sites[n as usize].1.clone() }
    };
    let appended = first.sites.len() as u32;
    let second = Chunk {
        duration_ns: first.duration_ns + 7,
        passed_ns: 7,
        coverage: first.coverage.clone(),
        processes: vec![(ProcessId(2), Process { pid: 77, ..Process::default() })],
        locations: vec![Location::Unmapped { process: ProcessId(2), address: 3 }],
        sites: vec![(SiteId(2), site(2, 1_000)), (SiteId(appended), site(0, 5))],
        ..Chunk::default()
    };
    let third = Chunk {
        passed_ns: 0,
        processes: vec![],
        symbols: vec![(LocationId(9), first.symbols[1].1.clone())],
        modules: vec![],
        locations: vec![],
        sites: vec![],
        ..second.clone()
    };
    vec![first, second, third]
}

fn written(dir: &Path) -> (std::path::PathBuf, Vec<u8>, Vec<u64>) {
    let path = dir.join("heaptrace.data");
    let mut writer = FileWriter::create(&path, &start()).expect("create");
    let mut ends = vec![writer.written()];
    for chunk in chunks() {
        let size = writer.append(&chunk).expect("append");
        ends.push(ends[ends.len() - 1] + size);
        assert_eq!(writer.written(), ends[ends.len() - 1]);
        assert_eq!(
            fs::metadata(&path).expect("file").len(),
            writer.written(),
            "each block is handed over at once"
        );
    }
    writer.finish().expect("finish");
    let bytes = fs::read(&path).expect("read");
    (path, bytes, ends)
}

fn bytes() -> (Vec<u8>, Vec<u64>) {
    let dir = TempDir::new().expect("directory");
    let (_, bytes, ends) = written(dir.path());
    (bytes, ends)
}

fn assert_sound(profile: &Profile) {
    for location in &profile.locations {
        match *location {
            Location::InModule { module, .. } => assert!(module.index() < profile.modules.len()),
            Location::Anonymous { process, .. } | Location::Unmapped { process, .. } => {
                assert!(process.index() < profile.processes.len());
            }
        }
    }
    assert!(profile.symbols.len() <= profile.locations.len());
    assert!(profile.frames.iter().all(|frame| frame.location.index() < profile.locations.len()));
    let mut frames = profile.stacks.iter().flat_map(|stack| &stack.frames);
    assert!(frames.all(|frame| frame.index() < profile.frames.len()));
    assert!(
        profile.sites.iter().all(|site| site.process.index() < profile.processes.len()
            && site.stack.index() < profile.stacks.len())
    );
}

#[test]
fn what_was_written_is_read() {
    let dir = TempDir::new().expect("directory");
    let (path, _, _) = written(dir.path());
    let recording = read(&path).expect("read");
    assert!(recording.complete && recording.cut.is_none() && recording.profile.coverage.finished);

    let mut expected = full();
    expected.residency.clear();
    expected.duration_ns += 7;
    expected.coverage.finished = true;
    expected.processes.iter_mut().for_each(|process| process.live_on(7));
    expected.processes.push(Process { pid: 77, ..Process::default() });
    expected.locations.push(Location::Unmapped { process: ProcessId(2), address: 3 });
    expected.symbols.push(expected.symbols[1].clone());
    expected.sites[2].totals.alloc_bytes += 1_000;
    let mut site = expected.sites[0].clone();
    site.totals.alloc_bytes += 5;
    expected.sites.push(site);
    assert_eq!(recording.profile, expected);
}

#[test]
fn an_earlier_file_is_kept_as_old() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("heaptrace.data");
    fs::write(&path, "earlier").expect("write");
    fs::write(dir.path().join("heaptrace.data.old"), "earliest").expect("write");
    drop(FileWriter::create(&path, &start()).expect("create"));
    assert_eq!(fs::read(dir.path().join("heaptrace.data.old")).expect("old"), b"earlier");
    assert!(fs::read(&path).expect("new").starts_with(&MAGIC));
}

#[test]
fn a_device_is_written_to_not_renamed_and_a_full_one_is_named_in_the_error() {
    let err = FileWriter::create(Path::new("/dev/full"), &start()).expect_err("full");
    assert!(Path::new("/dev/full").exists());
    assert_eq!(
        format!("{:#}", anyhow::Error::new(err)),
        "write to /dev/full: No space left on device (os error 28)"
    );
}

#[test]
fn nothing_but_a_new_file_for_its_owner_is_written_to() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let dir = TempDir::new().expect("directory");
    let (path, elsewhere) = (dir.path().join("heaptrace.data"), dir.path().join("elsewhere"));
    fs::write(&path, "earlier").expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("mode");
    drop(FileWriter::create(&path, &start()).expect("create"));
    let mode = fs::metadata(&path).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A link that leads nowhere yet: its maker would choose where the recording goes.
    let link = dir.path().join("link");
    symlink(&elsewhere, &link).expect("link");
    FileWriter::create(&link, &start()).expect_err("a dangling link");
    assert!(!elsewhere.exists());
    // A link to a file is replaced, and the file left as it is.
    fs::write(&elsewhere, "another's").expect("write");
    drop(FileWriter::create(&link, &start()).expect("create"));
    assert_eq!(fs::read(&elsewhere).expect("elsewhere"), b"another's");
    assert!(fs::symlink_metadata(&link).expect("metadata").is_file());
}

#[test]
fn a_missing_directory_is_named_in_the_error() {
    let err = FileWriter::create(Path::new("/nonexistent/x.data"), &start()).expect_err("missing");
    assert_eq!(
        format!("{:#}", anyhow::Error::new(err)),
        "create /nonexistent/x.data: No such file or directory (os error 2)"
    );
}

#[test]
fn a_file_cut_anywhere_is_good_up_to_its_last_whole_block() {
    let (bytes, ends) = bytes();
    let mut expected = vec![None];
    let mut profile = Profile::new(start());
    for chunk in chunks() {
        profile.fold(chunk).expect("fold");
        profile.coverage.finished = false;
        expected.push(Some(profile.clone()));
    }
    for length in 0..bytes.len() {
        let whole = ends.iter().filter(|end| **end <= length as u64).count();
        match read_from(&bytes[..length]) {
            Ok(recording) => {
                assert!(!recording.complete);
                assert_eq!(recording.cut.is_none(), ends.contains(&(length as u64)), "{length}");
                assert_eq!(Some(&recording.profile), expected[whole - 1].as_ref(), "{length}");
            }
            Err(ReadError::NotHeaptrace(_)) => assert_eq!(length, 0),
            Err(ReadError::Truncated { length: reported }) => {
                assert!(whole < 2, "{length}");
                assert_eq!(reported, length as u64);
            }
            Err(err) => panic!("{length}: {err}"),
        }
    }
}

#[test]
fn a_damaged_block_ends_reading_and_is_named() {
    let (mut bytes, ends) = bytes();
    let at = ends[1] as usize + HEADER + 3;
    bytes[at] ^= 0x10;
    let recording = read_from(&*bytes).expect("first chunk is good");
    let cut = recording.cut.expect("cut");
    assert_eq!((cut.block, cut.offset, cut.why.as_str()), (2, ends[1], "its checksum is wrong"));
    assert!(!recording.profile.coverage.finished);
    assert_eq!(recording.profile.sites.len(), full().sites.len());
}

#[test]
fn errors_say_what_is_wrong() {
    let (good, ends) = bytes();
    let text = |bytes: &[u8]| read_from(bytes).expect_err("bad").to_string();
    assert_eq!(text(b""), "not a heaptrace record file: it is empty");
    assert_eq!(text(b"PERFILE2........"), "not a heaptrace record file: it begins with \"PERFILE2\"");
    assert_eq!(text(b"\x7fELF"), "not a heaptrace record file: it begins with \"\\x7fELF\"");
    assert_eq!(text(&good[..20]), "truncated before its first complete block: it ends after 20 bytes");
    let mut newer = good.clone();
    newer[8] = 9;
    assert_eq!(text(&newer), "made by a newer heaptrace: file format 9, while this version reads 5 to 7");
    let mut corrupt = good.clone();
    corrupt[ends[0] as usize + HEADER] ^= 1;
    let expected = format!("corrupt: block 1 at offset {}: its checksum is wrong", ends[0]);
    assert_eq!(text(&corrupt), expected);
    assert_eq!(read(Path::new("/nonexistent")).expect_err("missing").to_string(), "no such file");
    assert_eq!(read(Path::new("/")).expect_err("directory").to_string(), "it is a folder");
}

/// A block of `content` with a right checksum, whatever it says.
pub(super) fn block(kind: u8, codec: u8, stored: &[u8], length: usize) -> Vec<u8> {
    let mut header = vec![kind, codec, 0, 0];
    header.extend((stored.len() as u32).to_le_bytes());
    header.extend((length as u32).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header);
    crc.update(stored);
    header.extend(crc.finalize().to_le_bytes());
    header.extend(stored);
    header
}

fn up_to_start() -> Vec<u8> {
    let (bytes, ends) = bytes();
    bytes[..ends[0] as usize].to_vec()
}

fn reason(block: &[u8]) -> String {
    let mut bytes = up_to_start();
    bytes.extend(block);
    match read_from(&*bytes) {
        Err(ReadError::Corrupt { block: 1, why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_decompression_bomb_is_refused_before_it_goes_off() {
    let zeros = vec![0; 64 << 20];
    let bomb = zstd::bulk::compress(&zeros, 3).expect("compress");
    assert!(reason(&block(2, 1, &bomb, zeros.len())).starts_with("implausible size"));
    assert!(reason(&block(2, 1, &bomb, 1 << 20)).starts_with("cannot be decompressed"));
    assert!(reason(&block(2, 0, &[0; 100], usize::from(u16::MAX) << 15)).starts_with("implausible size"));
}

#[test]
fn a_block_longer_than_the_file_costs_no_memory_and_is_a_truncation() {
    let mut bytes = up_to_start();
    bytes.extend([2, 0, 0, 0]);
    bytes.extend((100_u32 << 20).to_le_bytes());
    bytes.extend((100_u32 << 20).to_le_bytes());
    bytes.extend([0; 4]);
    assert!(matches!(read_from(&*bytes), Err(ReadError::Truncated { .. })));
}

#[test]
fn what_compresses_too_well_is_stored_so_that_it_is_read() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("x.data");
    let mut writer = FileWriter::create(&path, &start()).expect("create");
    let mut chunk = chunk(&full());
    chunk.coverage.notes.take(Note::Told { text: "a".repeat(8 << 20) });
    assert!(writer.append(&chunk).expect("append") > 1 << 20);
    assert_eq!(read(&path).expect("read").profile.coverage.notes, chunk.coverage.notes);
}

#[test]
fn indices_that_lead_nowhere_are_refused_with_a_name() {
    let encode = |chunk: &Chunk| {
        let content = super::tests::encode(chunk);
        block(2, 0, &content, content.len())
    };
    let mut bad = chunk(&full());
    bad.sites[3].1.stack = crate::model::StackId(9);
    assert_eq!(reason(&encode(&bad)), "site 3 names stack 9, of 9");
    let mut bad = chunk(&full());
    bad.sites[3].0 = SiteId(4);
    assert_eq!(reason(&encode(&bad)), "site list 4 names site 4, of 4");
    let mut bad = chunk(&full());
    bad.frames[0].location = LocationId(u32::MAX);
    assert_eq!(reason(&encode(&bad)), "frame 0 names location 4294967295, of 9");
    let mut bad = chunk(&full());
    bad.processes.pop();
    assert_eq!(reason(&encode(&bad)), "location 6 names process 1, of 1");
    let mut bad = chunk(&threaded());
    bad.threads.truncate(2);
    assert_eq!(reason(&encode(&bad)), "site 3 names thread 2, of 2");
    let mut bad = chunk(&full());
    bad.stacks[0].frames = vec![crate::model::FrameId(0); 5_000];
    assert_eq!(reason(&encode(&bad)), "stack 0 has 5000 frames, more than 1024");
}

#[test]
fn threads_are_kept() {
    let profile = threaded();
    let start = Start { by_thread: true, ..start() };
    let file = of_contents(Version::CURRENT, &start, &[&encode(&chunk(&profile))]);
    let read = read_from(&*file).expect("a recording").profile;
    assert!(read.by_thread);
    assert_eq!((read.threads, read.sites), (profile.threads, profile.sites));
}

#[test]
fn files_of_versions_before_are_told() {
    let (mut bytes, _) = bytes();
    bytes[8] = 1;
    let error = read_from(&*bytes).expect_err("older").to_string();
    assert_eq!(
        error,
        "made by an older heaptrace: file format 1, while this version reads 5 to 7; record again"
    );
}

#[test]
fn a_chunk_that_leaves_processes_or_growth_out_is_refused_and_changes_nothing() {
    let mut profile = full();
    let before = profile.clone();
    let new = |at| Chunk { processes: vec![(ProcessId(at), Process::default())], ..Chunk::default() };
    let err = profile.fold(new(3)).expect_err("one is missing");
    assert_eq!(err.to_string(), "process list 3 names process 3, of 3");
    let growth = vec![(GrowthId(9), before.sites[0].clone())];
    let err = profile.fold(Chunk { growth, ..Chunk::default() }).expect_err("nine are missing");
    assert!(err.to_string().starts_with("growth list 9 names growth 9, of "), "{err}");
    assert_eq!(profile, before);
    profile.fold(new(2)).expect("the next one");
}

#[test]
fn a_chunk_of_format_6_that_forgets_processes_is_refused_and_changes_nothing() {
    let version = Version::of_header(6);
    let contents = [chunk(&full()), Chunk::default()]
        .map(|chunk| content_of(version, &Chunk { symbols: vec![], ..chunk }));
    let recording =
        read_from(&*of_contents(version, &start(), &contents.each_ref().map(|of| &**of))).expect("one");
    assert_eq!(recording.cut.expect("cut").why, "0 processes after 2");
    // Of the rest it knew nothing.
    let known =
        |process: Process| Process { hits: 0, cpu_ns: None, paused_ns: 0, own_sample_bytes: 0, ..process };
    let processes: Vec<Process> = full().processes.into_iter().map(known).collect();
    assert_eq!(recording.profile.processes, processes);
}

proptest! {
    #[test]
    fn bytes_after_the_header_never_panic(
        major in Version::OLDEST..=Version::CURRENT.major,
        tail in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(major.to_le_bytes());
        bytes.extend(tail);
        if let Ok(recording) = read_from(&*bytes) {
            assert_sound(&recording.profile);
        }
    }

    #[test]
    fn flipped_bits_are_found(flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..4)) {
        let (good, _) = bytes();
        let mut bad = good.clone();
        for (at, bit) in flips {
            bad[at.index(good.len())] ^= 1 << bit;
        }
        if let Ok(recording) = read_from(&*bad) {
            assert_sound(&recording.profile);
            prop_assert!(bad == good || !recording.complete);
        }
    }

    /// Content with a right checksum: only decoding and folding stand between it and the report.
    #[test]
    fn altered_content_gives_no_index_that_leads_nowhere(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        memory_edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut content = encode(&chunk(&full()));
        let length = content.len();
        for (at, byte) in edits {
            content[at.index(length)] = byte;
        }
        let mut bytes = up_to_start();
        bytes.extend(block(2, 0, &content, length));
        let mut measured = encode(&full().residency.into_iter().collect::<Vec<_>>());
        let length = measured.len();
        for (at, byte) in memory_edits {
            measured[at.index(length)] = byte;
        }
        bytes.extend(block(4, 0, &measured, length));
        if let Ok(recording) = read_from(&*bytes) {
            assert_sound(&recording.profile);
            let rss = crate::report::Options { view: crate::report::View::Rss, ..Default::default() };
            crate::report::render(crate::report::Format::Text, &recording.profile, &rss, &mut std::io::sink())
                .expect("sink");
            let options = crate::report::Options { view: crate::report::View::Alloc, ..Default::default() };
            for format in [crate::report::Format::Text, crate::report::Format::Json] {
                crate::report::render(format, &recording.profile, &options, &mut std::io::sink()).expect("sink");
            }
        }
    }
}

fn why() -> Notes {
    [Note::NamesMissing { what: "why".into() }].into_iter().collect()
}

#[test]
fn names_come_after_the_data_in_as_many_blocks_as_they_need() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("heaptrace.data");
    let mut writer = FileWriter::create(&path, &start()).expect("create");
    let data = Chunk { symbols: vec![], ..chunk(&full()) };
    writer.append(&data).expect("append");
    let before = read(&path).expect("all but names").profile;
    assert_eq!(before.sites, full().sites);
    // Each fills a block.
    let symbol =
        |letter: &str| Symbol { name: letter.repeat(20 << 20), file: None, line: None, inlined: false };
    let symbols =
        vec![(LocationId(0), vec![symbol("a")]), (LocationId(2), vec![symbol("b")]), (LocationId(3), vec![])];
    writer.append_names(Names { symbols, notes: why() }).expect("names");
    writer.append_names(Names::default()).expect("none");
    writer.finish().expect("finish");
    let after = read(&path).expect("read");
    assert!(after.complete);
    let lengths =
        |at: usize| after.profile.symbols[at].iter().map(|symbol| symbol.name.len()).collect::<Vec<_>>();
    assert_eq!((lengths(0), lengths(1), lengths(2)), (vec![20 << 20], vec![], vec![20 << 20]));
    let mut notes = before.coverage.notes;
    notes.merge(&why());
    assert_eq!(after.profile.coverage.notes, notes);
}

#[test]
fn names_of_places_that_are_not_there_are_refused() {
    let mut profile = full();
    let before = profile.clone();
    let symbols = vec![(LocationId(u32::MAX), vec![])];
    profile.name(Names { symbols, notes: why() }).expect_err("no such place");
    assert_eq!(profile, before);
}
