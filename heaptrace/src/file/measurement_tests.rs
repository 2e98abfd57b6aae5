//! Measurements in a recording.

use super::*;
use crate::model::{Heap, Residency};

#[test]
fn what_is_on_huge_pages_is_read_back() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("heaptrace.data");
    let mut writer = FileWriter::create(&path, &start()).expect("create");
    writer.append(&chunk(&full())).expect("append");
    let mut measured: Vec<_> = full().residency.into_iter().collect();
    measured[0].1.hugetlb_bytes = 9 << 20;
    let Heap::Glibc(heap) = &mut measured[0].1.heap else { panic!("not glibc's") };
    heap.hugetlb_bytes = 7 << 20;
    measured[0].1.traced.blocks.as_mut().expect("blocks").hugetlb_bytes = 5 << 20;
    writer.append_memory(&measured).expect("append");
    writer.finish().expect("finish");
    let read = read(&path).expect("read").profile.residency;
    assert!(measured.iter().all(|(process, residency)| read[process] == *residency));
}

#[test]
fn measurements_are_read_back_and_later_ones_replace_earlier_ones() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("heaptrace.data");
    let mut writer = FileWriter::create(&path, &start()).expect("create");
    writer.append(&chunk(&full())).expect("append");
    let measured: Vec<_> = full().residency.into_iter().collect();
    let earlier = Residency { at_ns: 1, ..measured[0].1.clone() };
    writer.append_memory(&[(ProcessId(0), earlier)]).expect("append");
    writer.append_memory(&[]).expect("nothing");
    writer.append_memory(&measured).expect("append");
    writer.finish().expect("finish");
    let recording = read(&path).expect("read");
    assert!(recording.complete && recording.cut.is_none());
    assert_eq!(recording.profile.residency, full().residency);
}

#[test]
fn a_measurement_of_no_process_ends_what_can_be_read() {
    let measured: Vec<_> = full().residency.into_values().map(|of| (ProcessId(2), of)).collect();
    let content = encode(&measured);
    let mut bytes = up_to_start();
    let first = encode(&chunk(&full()));
    bytes.extend(block(2, 0, &first, first.len()));
    bytes.extend(block(4, 0, &content, content.len()));
    let recording = read_from(&*bytes).expect("the chunk before");
    assert_eq!(recording.cut.expect("cut").why, "measurement 0 names process 2, of 2");
    assert!(recording.profile.residency.is_empty());
}
