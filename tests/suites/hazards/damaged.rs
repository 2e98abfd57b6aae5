//! Files under a target's mappings that are damaged, or for another kind of process.

use super::target::{self, PLAIN_ENDS};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code, heaptrace,
    ledger::{Figures, Ledger},
    programs::{self, Program},
    runner::{Test, end_to_end},
    running::{PATIENCE, Running, wait_until},
    session::{self, Waiting},
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Damages of each kind that are tried; each is the same every time.
const SEEDS: u64 = 4;

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        end_to_end("attach: a 32-bit process", thirty_two_attached),
        end_to_end("command: a 32-bit program", || {
            let folder = TempDir::new()?;
            target::is_not_started(&thirty_two()?, &["thirty_two", "a 32-bit program"], folder.path())
        }),
    ];
    tests.push(end_to_end("attach: a symbol that leads into the middle of malloc", lying_symbol));
    for (name, place) in [
        (
            "debug information",
            Place::Sections(&[".debug_info", ".debug_abbrev", ".debug_line", ".debug_str"]),
        ),
        ("local symbols", Place::Sections(&[".symtab", ".strtab"])),
        ("unwind information", Place::Sections(&[".eh_frame", ".eh_frame_hdr"])),
        ("a debug link", Place::Sections(&[".gnu_debuglink", ".note.gnu.build-id"])),
        ("section headers", Place::SectionHeaders),
        ("the ELF header", Place::Header),
        ("program headers", Place::ProgramHeaders),
    ] {
        tests.push(end_to_end(format!("attach: {name} of the program damaged"), move || {
            damaged(Program::C("plain"), place, Whose::Program)
        }));
        if !matches!(place, Place::Sections([".debug_info" | ".symtab", ..])) {
            tests.push(end_to_end(format!("attach: {name} of the C library damaged"), move || {
                damaged(Program::C("plain"), place, Whose::Libc)
            }));
        }
    }
    tests
}

fn thirty_two() -> Result<PathBuf> {
    Program::Freestanding32("thirty_two").compile()
}

fn thirty_two_attached() -> Result<()> {
    let folder = TempDir::new()?;
    let mut process = Running::spawn(Command::new(thirty_two()?), "target", folder.path())?;
    let pid = process.pid();
    let file = heaptrace::record_file(folder.path());
    let output = heaptrace::command(&["record", "-p", &pid.to_string(), "-o"])?.arg(file).output()?;
    target::ensure_refused(&output, &["thirty_two", "a 32-bit program"])?;
    ensure!(code::changed_bytes(pid)? == 0, "it was refused, and its code is changed");
    ensure!(process.poll()?.is_none(), "the process has ended");
    Ok(())
}

/// A probe there would be in the middle of an instruction.
fn lying_symbol() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut bytes = fs::read(Program::CStatic("plain").compile()?)?;
    let address = {
        let elf = object::File::parse(&*bytes)?;
        let malloc = elf.symbols().find(|symbol| symbol.name() == Ok("malloc")).context("no malloc")?;
        malloc.address()
    };
    // st_value of Elf64_Sym, of every name that malloc has.
    let (right, wrong) = (address.to_le_bytes(), (address + 3).to_le_bytes());
    let (offset, length) = {
        let elf = object::File::parse(&*bytes)?;
        elf.section_by_name(".symtab").and_then(|table| table.file_range()).context("no .symtab")?
    };
    let table = bytes[offset as usize..(offset + length) as usize].chunks_exact_mut(24);
    for symbol in table.filter(|symbol| symbol[8..16] == right) {
        symbol[8..16].copy_from_slice(&wrong);
    }
    let program = folder.join("liar");
    fs::write(&program, bytes)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let mut waiting = Waiting::start(target::command(&program, folder), folder)?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    waiting.go()?;
    let outcome = target::ends_well(&mut waiting.target, &mut recorder, pid, pid, folder)?;
    let notes = &outcome.report.coverage.notes;
    let said = |note: &String| note.starts_with("malloc in ") && note.contains("middle of a function");
    ensure!(notes.iter().any(said), "nothing says that malloc is not probed: {notes:?}");
    Ok(())
}

/// What of a file is damaged: nothing that a running process, its functions bound, reads any more.
#[derive(Clone, Copy)]
enum Place {
    Sections(&'static [&'static str]),
    SectionHeaders,
    ProgramHeaders,
    Header,
}

#[derive(Clone, Copy)]
enum Whose {
    Program,
    Libc,
}

impl Place {
    /// Offsets and lengths in the file.
    fn ranges(self, file: &[u8]) -> Result<Vec<(u64, u64)>> {
        let number = |at: usize, bytes: usize| -> Result<u64> {
            let field = file.get(at..at + bytes).context("the file is too short")?;
            Ok(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        // Elf64_Ehdr: e_phoff, e_shoff, e_phentsize, e_phnum, e_shentsize, e_shnum.
        let (phoff, shoff) = (number(32, 8)?, number(40, 8)?);
        let (phsize, shsize) = (number(54, 2)? * number(56, 2)?, number(58, 2)? * number(60, 2)?);
        Ok(match self {
            Self::Header => vec![(0, 64)],
            Self::ProgramHeaders => vec![(phoff, phsize)],
            Self::SectionHeaders => vec![(shoff, shsize)],
            Self::Sections(names) => {
                let elf = object::File::parse(file)?;
                let found = names.iter().filter_map(|name| elf.section_by_name(name)?.file_range());
                found.filter(|(_, length)| *length > 0).collect()
            }
        })
    }
}

/// Numbers that look random and are the same every time (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Damages `path` in place, under whoever has it mapped.
fn damage(path: &Path, place: Place, seed: u64) -> Result<()> {
    let ranges = place.ranges(&fs::read(path)?)?;
    ensure!(!ranges.is_empty(), "{} has nothing of that", path.display());
    let file = OpenOptions::new().write(true).open(path)?;
    let mut numbers = Numbers(seed);
    for (offset, length) in ranges {
        // From one place to one in sixteen bytes.
        let places = 1 + (length >> 4 >> (seed % 4 * 2));
        for _ in 0..places {
            let at = offset + numbers.next() % length;
            let extreme = [0, u64::MAX, 1 << 63, numbers.next()][numbers.next() as usize % 4];
            let bytes = extreme.to_le_bytes();
            let count = [1, 4, 8][numbers.next() as usize % 3].min(offset + length - at);
            file.write_all_at(&bytes[..count as usize], at)?;
        }
    }
    Ok(())
}

fn damaged(program: Program, place: Place, whose: Whose) -> Result<()> {
    for seed in 0..SEEDS {
        one_damaged(program, place, whose, seed).with_context(|| format!("damage {seed}"))?;
    }
    Ok(())
}

/// It is refused, or traced with the right totals; the target never notices.
fn one_damaged(program: Program, place: Place, whose: Whose, seed: u64) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (own_program, own_libc) = (folder.join("plain"), folder.join("lib/libc.so.6"));
    programs::copy(&program.compile()?, &own_program)?;
    if let Place::Sections([".gnu_debuglink", ..]) = place {
        let link = format!("--add-gnu-debuglink={}", own_program.display());
        let status = Command::new("objcopy").arg(link).arg(&own_program).status()?;
        ensure!(status.success(), "objcopy (binutils) failed");
    }
    fs::create_dir(folder.join("lib"))?;
    fs::copy(loaded("libc.so.6")?, &own_libc)?;
    // The kernel lets nobody write to a program that runs: as the dynamic linker's argument it is a library.
    let linker = loaded("ld-linux-x86-64.so.2")?;
    let mut command = target::command(&linker, folder);
    command.arg(&own_program);
    // Nothing is looked up in the damaged file later on.
    command.env("LD_LIBRARY_PATH", folder.join("lib")).env("LD_BIND_NOW", "1");
    let mut waiting = Waiting::start(command, folder)?;
    let pid = waiting.target.pid();
    let victim = match whose {
        Whose::Program => &own_program,
        Whose::Libc => &own_libc,
    };
    damage(victim, place, seed)?;

    let mut recorder = heaptrace::command(&["record", "-p", &pid.to_string(), "-o"])?;
    recorder.arg(heaptrace::record_file(folder));
    let mut recorder = Running::spawn(recorder, "heaptrace", folder)?;
    let mut refused = None;
    wait_until(PATIENCE, || {
        refused = recorder.poll()?;
        Ok(refused.is_some() || recorder.stderr().contains("heaptrace: tracing"))
    })
    .with_context(|| recorder.describe("neither traces nor refuses"))?;
    waiting.go()?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(PLAIN_ENDS), "the target ended with {status}");
    let ended = recorder.wait()?;
    let describe = |what: &str| recorder.describe(&format!("{what} ({ended})"));
    ensure!(!recorder.stderr().contains("panicked"), "{}", describe("panicked"));
    if refused.is_some() {
        ensure!(ended.code() == Some(4), "{}", describe("gave up otherwise than by refusing"));
        // What only names and stacks are made of is no reason.
        ensure!(!matches!(place, Place::Sections(_)), "{}", describe("refused"));
        return Ok(());
    }
    ensure!(ended.success(), "{}", describe("did not finish"));
    let report = heaptrace::report(folder)?;
    let process = report.process(pid).context("the target is not in the report")?;
    let mut expected = Figures::default();
    Ledger::read(&session::ledger_file(folder))?
        .process(pid)?
        .sites
        .values()
        .for_each(|figures| expected += *figures);
    let found = process.figures();
    ensure!(found == expected, "totals\n    ledger {expected}\n    report {found}");
    Ok(())
}

/// The path of a library of this process.
fn loaded(name: &str) -> Result<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5)).map(PathBuf::from);
    paths.find(|path| path.ends_with(name)).with_context(|| format!("no {name} is mapped"))
}
