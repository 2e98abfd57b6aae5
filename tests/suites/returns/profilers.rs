//! Heap profilers inside the program: their profiles are those of the untraced program, frame by frame.

use crate::same::{FOLDER, Subject, halves};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare::{self, Find},
    programs::Program,
    runner::{Test, end_to_end},
    session::Start,
};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// What the program `unwinding` ends with.
const ENDS_UNWINDING: i32 = 24;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for start in Start::BOTH {
        tests.push(
            end_to_end(format!("{}: jemalloc's own profile", start.name()), move || {
                let options = format!("prof:true,prof_final:true,lg_prof_sample:0,prof_prefix:{FOLDER}/own");
                profile(start, &["-ljemalloc"], "MALLOC_CONF", &options)
            })
            .needing(jemalloc_without_profiles()),
        );
        tests.push(end_to_end(format!("{}: tcmalloc's own profile", start.name()), move || {
            profile(start, &["-ltcmalloc"], "HEAPPROFILE", &format!("{FOLDER}/own"))
        }));
        for (name, flags, libraries) in
            [("backtrace()", &[][..], &[][..]), ("libunwind", &["-DLIBUNWIND"], &["-lunwind"])]
        {
            tests.push(end_to_end(
                format!("{}: malloc looks at its callers by {name}", start.name()),
                move || {
                    let program = Program::CLinked("unwinding", flags, libraries).compile()?;
                    Subject::new(program, &[], ENDS_UNWINDING).exact(start, Find::Caller)
                },
            ));
        }
    }
    tests
}

/// It says so itself of options that it was not compiled with.
fn jemalloc_without_profiles() -> Option<String> {
    let mut command = Command::new("true");
    command.env("LD_PRELOAD", "libjemalloc.so.2").env("MALLOC_CONF", "prof:true").stdout(Stdio::null());
    let said = command.output().map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    match said {
        Ok(said) if said.is_empty() => None,
        Ok(said) => Some(format!("jemalloc keeps no profiles: {}", said.trim())),
        Err(error) => Some(error.to_string()),
    }
}

fn profile(
    start: Start,
    libraries: &'static [&'static str],
    variable: &'static str,
    value: &str,
) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::CLinked("profiled", &[], libraries).compile()?;
    let outcome = Subject::new(program, &[], 0).environment(variable, value).outcome_in(start, folder)?;
    let (without, with) = halves(folder);
    let (expected, found) = (samples(&without)?, samples(&with)?);
    // Of four functions at five depths each; what is the same without stacks would show nothing.
    let own = expected.iter().filter(|sample| sample.contains(" profiled+")).count();
    ensure!(own >= 20, "{own} stacks of the program's own: {expected:#?}");
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|sample| !those.contains(sample)).cloned().collect()
    };
    let (gone, new) = (only(&expected, &found), only(&found, &expected));
    ensure!(expected == found, "its own profile\n--- only untraced\n{gone:#?}\n--- only traced\n{new:#?}");
    compare::exactly(&outcome, Find::Caller)
}

/// The samples of the profile in `folder`, in no order: counts, and frames as offsets in their files.
fn samples(folder: &Path) -> Result<Vec<String>> {
    let mut files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let file = files
        .find(|path| path.extension().is_some_and(|end| end == "heap"))
        .context("the allocator left no profile")?;
    let text = fs::read_to_string(file)?;
    let (profile, maps) = text.split_once("MAPPED_LIBRARIES:").context("the profile has no mappings")?;
    let maps: Vec<Mapping> = maps.lines().filter_map(Mapping::read).collect();
    let mut samples = Vec::new();
    // Of jemalloc's samples only the first line has the stack; tcmalloc's are of one line.
    for line in profile.lines().skip(1) {
        let words = line.split_ascii_whitespace().map(|word| match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).map_or_else(|_| word.to_owned(), |a| place(&maps, a)),
            None => word.to_owned(),
        });
        let line = words.collect::<Vec<_>>().join(" ");
        match samples.last_mut() {
            Some(last) if line.starts_with('t') => *last = format!("{last}; {line}"),
            _ => samples.push(line),
        }
    }
    samples.retain(|sample: &String| sample.contains('@'));
    samples.sort();
    Ok(samples)
}

struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    path: String,
}

impl Mapping {
    /// A line of /proc/PID/maps.
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (start, end) = words.first()?.split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(Self {
            start: hex(start)?,
            end: hex(end)?,
            offset: hex(words.get(2)?)?,
            path: (*words.get(5)?).to_owned(),
        })
    }
}

fn place(maps: &[Mapping], address: u64) -> String {
    match maps.iter().find(|mapping| (mapping.start..mapping.end).contains(&address)) {
        Some(Mapping { start, offset, path, .. }) => {
            let name = path.rsplit('/').next().unwrap_or(path);
            format!("{name}+{:x}", address - start + offset)
        }
        None => "nowhere".to_owned(),
    }
}
