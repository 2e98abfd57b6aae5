//! `heaptrace report` as a user runs it: exit codes, messages, outputs.

#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]

use heaptrace::file::FileWriter;
use heaptrace::model::*;
use heaptrace_common::{function::Function, stack::StackEnd};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A recording of `sites` sites whose only frame is in a file that is not there.
fn record(path: &Path, sites: u32, finish: bool) {
    let host = Host { kernel: "6.1.0".into(), arch: "x86_64".into() };
    let start = Start {
        heaptrace: "0.1.0".into(),
        host,
        started_ns: 0,
        mode: Mode::Exact,
        by_thread: false,
        has_lifetimes: false,
    };
    let mut chunk = Chunk {
        duration_ns: 1_000_000_000,
        processes: vec![(ProcessId(0), Process { pid: 42, comm: "app".into(), ..Process::default() })],
        modules: vec![Module { path: "/gone/libfoo.so".into(), build_id: Some(BuildId(vec![1, 2, 3])) }],
        ..Chunk::default()
    };
    for n in 0..sites {
        chunk.locations.push(Location::InModule { module: ModuleId(0), offset: 0x1000 + u64::from(n) });
        chunk.frames.push(Frame { address: u64::from(n), location: LocationId(n) });
        chunk.stacks.push(Stack { frames: vec![FrameId(n)], end: StackEnd::Complete });
        let totals = Totals { alloc_bytes: 1_001 + u64::from(n), alloc_count: 1, ..Totals::default() };
        chunk.processes[0].1.totals.add(&totals);
        let (process, stack) = (ProcessId(0), StackId(n));
        let sizes = SizeHistogram::default();
        let site = Site {
            process,
            stack,
            function: Function::Malloc,
            totals,
            oldest_age_ns: None,
            sizes,
            samples: None,
            thread: None,
            lifetimes: LifetimeHistogram::default(),
        };
        chunk.sites.push((SiteId(n), site));
    }
    let mut writer = FileWriter::create(path, &start).expect("create");
    writer.append(&chunk).expect("append");
    if finish {
        writer.finish().expect("finish");
    }
}

fn report(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heaptrace"))
        .arg("report")
        .args(args)
        .current_dir(dir)
        .output()
        .expect("run")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn heaptrace_data_is_reported_by_default_and_places_without_symbols_are_named_by_module() {
    let dir = TempDir::new().expect("directory");
    record(&dir.path().join("heaptrace.data"), 2, true);
    let output = report(dir.path(), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    assert!(text.contains("libfoo.so+0x1001") && text.contains("2,003 bytes"), "{text}");
    assert!(!text.contains("did not finish"), "{text}");
}

#[test]
fn a_recording_that_was_cut_off_is_reported_and_says_so() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("heaptrace.data");
    record(&path, 2, false);
    let mut bytes = fs::read(&path).expect("read");
    bytes.extend([2, 0, 0]);
    fs::write(&path, bytes).expect("write");
    let output = report(dir.path(), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text.contains("the recorder did not finish") && text.contains("the file ends inside it"),
        "{text}"
    );
    let output = report(dir.path(), &["--format", "folded"]);
    assert!(stderr(&output).contains("warning: the recorder did not finish"));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_line_and_exit_code_1() {
    let dir = TempDir::new().expect("directory");
    fs::write(dir.path().join("perf.data"), "PERFILE2").expect("write");
    for (file, message) in [
        (
            "perf.data",
            "heaptrace: failed to read perf.data: not a heaptrace record file: it begins with \"PERFILE2\"\n",
        ),
        (".", "heaptrace: failed to read .: it is a folder\n"),
    ] {
        let output = report(dir.path(), &[file, "-o", "out"]);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), message));
        assert!(!dir.path().join("out").exists(), "nothing is left behind");
    }
}

#[test]
fn a_file_that_is_not_there_is_exit_code_2_and_what_to_do_is_said() {
    let dir = TempDir::new().expect("directory");
    let output = report(dir.path(), &["none.data", "-o", "out"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is no file none.data; record first"), "{}", stderr(&output));
    assert!(!dir.path().join("out").exists(), "nothing is left behind");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let dir = TempDir::new().expect("directory");
    for args in [&["--format", "pdf"][..], &["--min-bytes", "many"], &["--pid", "-1"]] {
        assert_eq!(report(dir.path(), args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_found_before_the_recording_is_read() {
    let dir = TempDir::new().expect("directory");
    let output = report(dir.path(), &["none.data", "-o", "nowhere/out"]);
    let message =
        "heaptrace: failed to open nowhere/out for writing: No such file or directory (os error 2)\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), message));
}

#[test]
fn the_recording_is_never_overwritten_by_its_report() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("heaptrace.data");
    record(&path, 1, true);
    let before = fs::read(&path).expect("read");
    let output = report(dir.path(), &["-o", "./heaptrace.data", "--format", "text"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is the recording itself"), "{}", stderr(&output));
    // Nor is it a name for any format.
    assert_eq!(report(dir.path(), &["-o", "./heaptrace.data"]).status.code(), Some(2));
    assert_eq!(fs::read(&path).expect("read"), before);
}

#[test]
fn an_earlier_report_is_replaced_whole_and_kept_if_the_recording_is_bad() {
    let dir = TempDir::new().expect("directory");
    let out = dir.path().join("out.json");
    fs::write(&out, "x".repeat(1 << 20)).expect("write");
    fs::write(dir.path().join("heaptrace.data"), "PERFILE2").expect("write");
    assert_eq!(report(dir.path(), &["-o", "out.json", "--format", "json"]).status.code(), Some(1));
    assert_eq!(fs::metadata(&out).expect("kept").len(), 1 << 20);
    record(&dir.path().join("heaptrace.data"), 1, true);
    assert_eq!(report(dir.path(), &["-o", "out.json", "--format", "json"]).status.code(), Some(0));
    let document: serde_json::Value = serde_json::from_slice(&fs::read(&out).expect("read")).expect("JSON");
    assert_eq!(document["sites"][0]["alloc_bytes"], 1_001);
}

#[test]
fn a_full_disk_is_exit_code_1_and_named() {
    let dir = TempDir::new().expect("directory");
    record(&dir.path().join("heaptrace.data"), 1, true);
    let output = report(dir.path(), &["-o", "/dev/full"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("failed to write to /dev/full: No space left"), "{}", stderr(&output));
}

#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let dir = TempDir::new().expect("directory");
    record(&dir.path().join("heaptrace.data"), 20_000, true);
    let mut child = Command::new(env!("CARGO_BIN_EXE_heaptrace"))
        .args(["report", "--by", "site"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run");
    let mut first = [0; 10];
    child.stdout.take().expect("stdout").read_exact(&mut first).expect("read");
    let output = child.wait_with_output().expect("wait");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn bytes_after_the_end_of_a_recording_are_said_in_the_footer_and_as_a_warning() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("heaptrace.data");
    record(&path, 2, true);
    let before = report(dir.path(), &["--format", "json"]);
    let mut bytes = fs::read(&path).expect("read");
    bytes.extend(b"behind");
    fs::write(&path, bytes).expect("write");
    let ignored = "ignored 6 bytes after the end of the recording";
    let output = report(dir.path(), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), format!("heaptrace: warning: heaptrace.data: {ignored}\n"));
    assert!(text.contains(&format!("#   {ignored}\n")) && !text.contains("did not finish"), "{text}");
    let after = report(dir.path(), &["--format", "json"]);
    let json = |output: &Output| serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON");
    let (mut after, mut before) = (json(&after), json(&before));
    let notes = |of: &mut serde_json::Value| of["coverage"]["notes"].take();
    let facts = |of: &mut serde_json::Value| of["coverage"]["facts"].take();
    assert!(notes(&mut after).as_array().is_some_and(|notes| notes.iter().any(|note| note == ignored)));
    let worst = serde_json::json!([{"kind": "parts_skipped", "what": ignored}]);
    let fact = serde_json::json!({"kind": "parts_skipped", "count": 1, "incomplete": false, "worst": worst});
    assert_eq!(facts(&mut after), serde_json::json!([fact]));
    notes(&mut before);
    assert_eq!(facts(&mut before), serde_json::json!([]));
    assert_eq!(after, before);
}
