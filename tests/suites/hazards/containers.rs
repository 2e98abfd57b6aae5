//! Containers of one image: what is one file below has a number of its own in each, and its probes are to be there once.

use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::Program,
    report::Report,
    runner::{Test, end_to_end},
    running::{PATIENCE, Running, wait_until},
};
use std::{fs, os::unix::fs::FileExt as _, path::Path, process::Command, thread, time::Duration};
use tempfile::TempDir;

/// In a mount namespace of its own, which goes with all mounts in it: makes the image, and runs the rest in it. `$1` is the
/// folder, `$2` the program, then come libc and linker.
const IMAGE: &str = r#"
set -e
mount -t tmpfs none "$1"
cd "$1"
mkdir -p image/lib64
cp "$2" image/containers; cp "$3" image/lib64/libc.so.6; cp "$4" image/lib64/ld-linux-x86-64.so.2
overlay() { mkdir -p "$1" "$1.own" "$1.work"; mount -t overlay none -o "lowerdir=image,upperdir=$1.own,workdir=$1.work" "$1"; }
"#;

/// What makes each of the containers.
const OVERLAY: &str = "overlay one; overlay two; overlay three";
const OTHERWISE: &str = "overlay one; mkdir two; mount --bind image two; cp -rl image three";
/// Files of their own, alike in all that stat tells but their numbers.
const COPIES: &str = "overlay one; cp -rp image two; cp -rp image image2; \
                      mkdir three three.own three.work; \
                      mount -t overlay none -o lowerdir=image2,upperdir=three.own,workdir=three.work three";
/// Two volumes of one file system, in which other files have the same numbers.
const SUBVOLUMES: &str = "truncate -s 200M disk; mkfs.btrfs -q disk; mkdir disk.at; mount -o loop disk disk.at; \
                          for n in one two three; do btrfs -q subvolume create disk.at/$n; cp -r image/. disk.at/$n; \
                          mkdir $n; mount --bind disk.at/$n $n; done";

const ROOTS: [&str; 3] = ["one", "two", "three"];

pub fn tests() -> Vec<Test> {
    let missing = || {
        let there = Command::new("mkfs.btrfs").arg("--version").output().is_ok();
        (!there).then(|| "mkfs.btrfs is missing (apt install btrfs-progs)".to_owned())
    };
    let mut tests = Vec::new();
    for (options, probes) in [(&["--exact-children"][..], "for all"), (&[], "for each process")] {
        for (name, make) in [
            ("over overlayfs", OVERLAY),
            ("over overlayfs, a bind mount and hard links", OTHERWISE),
            ("and of copies of it", COPIES),
        ] {
            tests.push(end_to_end(format!("containers of one image {name}, probes {probes}"), move || {
                counted_once(make, options)
            }));
        }
        tests.push(
            end_to_end(format!("subvolumes of one btrfs, probes {probes}"), move || {
                counted_once(SUBVOLUMES, options)
            })
            .needing(missing()),
        );
    }
    tests
}

fn counted_once(make: &str, options: &'static [&str]) -> Result<()> {
    let outer = TempDir::new()?;
    let folder = outer.path().join("containers");
    fs::create_dir(&folder)?;
    let (libc, linker) = super::worlds::system_libraries()?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg(format!(r#"{IMAGE}{make}; shift 4; LD_LIBRARY_PATH=$PWD/image/lib64 exec "$@""#))
        .arg("sh")
        .args([&folder, &Program::C("containers").compile()?, &libc, &linker])
        .arg(heaptrace::binary()?)
        .args(["record", "-o"])
        .arg(heaptrace::record_file(outer.path()))
        .args(options)
        .args(heaptrace::before_command(options))
        // With the image's C library, too: no process of others is to have the probes.
        .arg("image/containers")
        .args(ROOTS);
    let mut running = Running::spawn(command, "heaptrace", outer.path())?;
    let began = begin_when_probed(&mut running, &folder);
    began.with_context(|| running.describe("was to trace containers"))?;
    heaptrace::finish(&mut running)?;
    judge(&heaptrace::report(outer.path())?)
}

/// Lets the containers begin once the code of all has breakpoints.
fn begin_when_probed(running: &mut Running, folder: &Path) -> Result<()> {
    let mut inside = Vec::new();
    wait_until(PATIENCE, || {
        if let Some(status) = running.poll()? {
            bail!("it ended early: {status}");
        }
        inside = of_folder(folder)?;
        Ok(inside.len() == ROOTS.len() && inside.iter().all(|pid| has_breakpoint(*pid)))
    })?;
    // From the first breakpoint until calls count, others are placed and functions begin to be verified.
    thread::sleep(Duration::from_secs(2));
    for pid in inside {
        fs::write(format!("/proc/{pid}/root/go"), "")?;
    }
    Ok(())
}

/// Processes that have one of the roots in `folder`.
fn of_folder(folder: &Path) -> Result<Vec<u32>> {
    let pids =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let root_of = |pid: &u32| fs::read_link(format!("/proc/{pid}/root")).ok();
    Ok(pids.filter(|pid| root_of(pid).is_some_and(|root| root.starts_with(folder))).collect())
}

/// Whether `malloc` of the process's C library was changed.
fn has_breakpoint(pid: u32) -> bool {
    differs(pid).unwrap_or(false)
}

fn differs(pid: u32) -> Option<bool> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let code = maps.lines().find(|line| line.contains("r-xp") && line.contains("/libc.so.6"))?;
    let mut fields = code.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (start, end, offset) = (number(start)?, number(end)?, number(fields.nth(1)?)?);
    let (mut here, mut there) = (vec![0; (end - start) as usize], vec![0; (end - start) as usize]);
    fs::File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut here, start).ok()?;
    fs::File::open(format!("/proc/{pid}/root/lib64/libc.so.6"))
        .ok()?
        .read_exact_at(&mut there, offset)
        .ok()?;
    Some(here != there)
}

fn judge(report: &Report) -> Result<()> {
    let within: Vec<_> = report.processes.iter().filter(|p| p.alloc_count >= 2_000).collect();
    ensure!(within.len() == ROOTS.len(), "{:#?}", report.processes);
    for process in within {
        let live = (process.live_count, process.live_bytes);
        // What is allocated before, where probes are there from the first call.
        let of_start = process.alloc_count - 2_010;
        ensure!(
            of_start <= 10 && process.free_count <= 2_000 + of_start && live.0 - 10 <= of_start,
            "{process:#?}"
        );
        ensure!((process.unknown_frees, process.missed_frees) == (0, 0), "{process:#?}");
        ensure!(of_start > 0 || live == (10, 10 * 1009) && process.free_count == 2_000, "{process:#?}");
    }
    let coverage = &report.coverage;
    ensure!(
        (coverage.unknown_frees, coverage.missed_returns, coverage.nested_calls) == (0, 0, 0),
        "{coverage:#?}"
    );
    ensure!(coverage.distrusted().is_empty(), "{coverage:#?}");
    Ok(())
}
