//! Files that say much in few bytes are read whole, whatever comes in which order.

use super::*;
use crate::{
    file::{FileWriter, read},
    fixtures::profiles::start,
    model::{LifetimeHistogram, Location, LocationId, Process, Site, Stack, StackId, Symbol, Totals},
};
use heaptrace_common::{function::Function, stack::StackEnd};
use std::fs;
use tempfile::TempDir;

fn site(index: u32, count: u64) -> (SiteId, Site) {
    let site = Site {
        process: ProcessId(0),
        stack: StackId(0),
        function: Function::Malloc,
        totals: Totals { alloc_bytes: 16 * count, alloc_count: count, ..Totals::default() },
        oldest_age_ns: None,
        samples: None,
        thread: None,
        lifetimes: LifetimeHistogram::default(),
        sizes: crate::model::SizeHistogram((0..count.min(32) as usize).map(|_| 1).collect()),
    };
    (SiteId(index), site)
}

/// A chunk with more `sites`, after `known` ones of which the first are told again.
fn chunk(known: u32, sites: u32, count: u64) -> Chunk {
    let again = known.min(sites);
    let mut chunk = Chunk {
        processes: vec![(ProcessId(0), Process { pid: 1, ..Process::default() })],
        sites: (0..again).chain(known..known + sites).map(|index| site(index, count)).collect(),
        ..Chunk::default()
    };
    if known == 0 {
        let location = |address| Location::Unmapped { process: ProcessId(0), address };
        chunk.locations = (0..u64::from(sites)).map(location).collect();
        chunk.stacks = vec![Stack { frames: Vec::new(), end: StackEnd::Complete }];
    }
    chunk
}

#[test]
fn what_is_said_in_few_bytes_is_read_whole() {
    const SITES: u32 = 70_000;
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("heaptrace.data");
    let mut writer = FileWriter::create(&path, &start()).expect("create");
    for (n, count) in [(0, 1), (1, 7), (2, 3)] {
        writer.append(&chunk(n * SITES, SITES, count)).expect("chunk");
        let symbol = |index| {
            let name = "a name".to_owned();
            (LocationId(index), vec![Symbol { name, file: None, line: None, inlined: false }])
        };
        let symbols = (0..SITES).map(symbol).collect();
        writer.append_names(Names { symbols, ..Names::default() }).expect("names");
    }
    writer.finish().expect("end");
    let recording = read(&path).expect("a recording");
    assert_eq!(recording.cut, None);
    assert!(recording.complete);
    assert_eq!(recording.profile.sites.len(), 3 * SITES as usize);
    let size = fs::metadata(&path).expect("a file").len();
    assert!((2 << 20..20 << 20).contains(&size), "{size} bytes");
}

#[test]
fn a_file_that_pays_for_itself_has_no_padding() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("heaptrace.data");
    let mut writer = FileWriter::create(&path, &start()).expect("create");
    for n in 0..20 {
        writer.append(&chunk(n * 1000, 1000, 2)).expect("chunk");
    }
    writer.finish().expect("end");
    let size = fs::metadata(&path).expect("a file").len();
    assert!(size < 1 << 20, "{size} bytes");
}
