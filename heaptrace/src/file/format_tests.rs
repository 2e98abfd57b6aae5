//! Formats before this one, and newer minor versions of it.

use super::wire::Writer;
use super::*;
use crate::model::Coverage;
use crate::report::{By, Format, Options, View};

/// All that reports show of it.
fn shown(profile: &Profile) -> String {
    let mut shown = Vec::new();
    let mut show = |output, view, by| {
        let options = Options { view, by, ..Options::default() };
        crate::report::render(output, profile, &options, &mut shown).expect("a report");
    };
    show(Format::Text, View::Live, By::Stack);
    show(Format::Text, View::Growth, By::Site);
    show(Format::Text, View::Rss, By::Stack);
    show(Format::Json, View::Alloc, By::Stack);
    String::from_utf8(shown).expect("text")
}

/// The same program in each: see `recordings/README.md`.
#[test]
fn recordings_of_the_formats_so_far_are_read() {
    for (major, file) in kept() {
        let recording = read_from(file).unwrap_or_else(|err| panic!("format {major}: {err}"));
        assert!(recording.complete && recording.cut.is_none(), "format {major}");
        assert_eq!((recording.version, recording.skipped), (Version::of_header(major), Skipped::default()));
        insta::assert_snapshot!(format!("format_{major}"), shown(&recording.profile));
    }
}

/// A file of the next minor version, as far as this one can make one: the start and chunk of fixtures, `more` blocks, and the end.
fn newer(version: Version, chunk: &[u8], more: &[Vec<u8>]) -> Vec<u8> {
    let start = wire::content(version, &start());
    [
        &MAGIC[..],
        &version.major.to_le_bytes(),
        &block(1, 0, &start, start.len()),
        &block(2, 0, chunk, chunk.len()),
        &more.concat(),
        &block(3, 0, &[], 0),
    ]
    .concat()
}

const NEWER: Version = Version { major: Version::CURRENT.major, minor: Version::CURRENT.minor + 1 };

/// The content of the chunk of fixtures, with three more bytes behind what is known of it.
fn appended() -> Vec<u8> {
    let content = encode(&chunk(&full()));
    let (mut record, mut length) = (content.as_slice(), 0_usize);
    for shift in (0..).step_by(7) {
        let (byte, rest) = record.split_first().expect("a length");
        record = rest;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    assert_eq!(length, record.len(), "a chunk is one record");
    let mut writer = Writer::new(NEWER);
    writer.record(|to| record.iter().chain(b"new").for_each(|byte| to.byte(*byte)));
    writer.into_content()
}

#[test]
fn a_newer_minor_version_is_read_and_what_was_skipped_is_said() {
    let unknown = [block(9, 1, b"not even compressed", 4_000), block(200, 0, b"xy", 2)];
    let recording = read_from(&*newer(NEWER, &appended(), &unknown)).expect("read");
    assert!(recording.complete && recording.cut.is_none());
    assert_eq!(recording.profile.sites, full().sites);
    assert_eq!(recording.profile.growth, full().growth);
    assert_eq!(recording.version, NEWER);
    let Skipped { blocks, records, behind } = recording.skipped;
    assert_eq!(blocks, Count { number: 2, bytes: 2 * HEADER as u64 + 19 + 2 });
    assert_eq!((records, behind), (Count { number: 1, bytes: 3 }, 0));
    assert_eq!(
        recording.skipped.sentences(recording.version),
        [
            "a newer heaptrace made the file (format 7.9, while this version knows 7.8): skipped 2 blocks of unknown \
          kinds (53 bytes) and 1 unknown addition to a record (3 bytes)"
        ]
    );
}

#[test]
fn a_newer_minor_version_that_uses_nothing_new_is_read_without_a_word() {
    let content = encode(&chunk(&full()));
    let recording = read_from(&*newer(NEWER, &content, &[])).expect("read");
    assert!(recording.complete && recording.skipped.sentences(recording.version).is_empty());
}

#[test]
fn what_is_unknown_in_a_known_version_is_damage() {
    let content = encode(&chunk(&full()));
    let recording =
        read_from(&*newer(Version::CURRENT, &content, &[block(9, 0, b"xy", 2)])).expect("a chunk");
    assert_eq!(recording.cut.expect("cut").why, "unknown kind 9 or codec 0");
    let error = read_from(&*newer(Version::CURRENT, &appended(), &[])).expect_err("no chunk").to_string();
    assert!(error.ends_with("cannot be decoded: 3 bytes too many"), "{error}");
}

#[test]
fn bytes_behind_the_end_are_said() {
    let (mut bytes, _) = bytes();
    let whole = read_from(&*bytes).expect("read");
    bytes.extend(b"more");
    let recording = read_from(&*bytes).expect("read");
    assert!(recording.complete);
    assert_eq!((&recording.profile, recording.size), (&whole.profile, whole.size));
    assert_eq!(
        recording.skipped.sentences(recording.version),
        ["ignored 4 bytes after the end of the recording"]
    );
}

#[test]
fn a_chunk_in_which_nothing_changed_is_small() {
    let still = Chunk { duration_ns: 3_600_000_000_000, passed_ns: 5_000_000_000, ..Chunk::default() };
    let with_coverage =
        Chunk { coverage: Coverage { events: u64::MAX, finished: true, ..full().coverage }, ..still.clone() };
    assert!(encode(&still).len() < 64, "{}", encode(&still).len());
    assert!(encode(&with_coverage).len() < 512, "{}", encode(&with_coverage).len());
}
