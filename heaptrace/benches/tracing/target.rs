//! The traced programs: compiled for the benchmark, told what to do through their standard input.

use anyhow::{Context as _, Result, bail, ensure};
use heaptrace::probes::{discover::Discoverer, plan::FilePlan};
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// How a program is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    Pointers,
    NoPointers,
}

/// Compiles `programs/NAME.c` into `folder`.
pub fn compile(name: &str, frames: Frames, folder: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/tracing/programs/{name}.c"));
    let (flag, suffix) = match frames {
        Frames::Pointers => ("-fno-omit-frame-pointer", "fp"),
        Frames::NoPointers => ("-fomit-frame-pointer", "nofp"),
    };
    let program = folder.join(format!("{name}-{suffix}"));
    let status = Command::new("cc")
        .args(["-std=gnu17", "-O2", "-g", "-Wall", "-Wextra", "-fno-builtin", flag])
        .args(["-fno-optimize-sibling-calls", "-o"])
        .args([&program, &source])
        .status()
        .context("failed to run cc")?;
    ensure!(status.success(), "cc failed on {name}.c");
    Ok(program)
}

/// A running target. Dropped, it ends: its input does.
pub struct Target {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Target {
    pub fn start(program: &Path) -> Result<Self> {
        Self::of(&mut Command::new(program))
    }

    pub fn of(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {}", command.get_program().display()))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, input, output })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells the target something, and waits for its answer.
    pub fn ask(&mut self, what: &str) -> Result<String> {
        let input = self.input.as_mut().context("no standard input")?;
        writeln!(input, "{what}")?;
        self.hear()
    }

    /// What it says next.
    pub fn hear(&mut self) -> Result<String> {
        let mut answer = String::new();
        if self.output.read_line(&mut answer)? == 0 {
            bail!("the target ended: {}", self.child.wait()?);
        }
        Ok(answer.trim().to_owned())
    }

    /// Nanoseconds per malloc and free, over `pairs` of them.
    pub fn pairs(&mut self, pairs: u32) -> Result<f64> {
        self.ask(&pairs.to_string())?.parse().context("the target gave no number")
    }

    /// What heaptrace would probe in it.
    pub fn plan(&self) -> Result<Vec<FilePlan>> {
        let (_, plan) = Discoverer::new().discover(self.pid())?;
        ensure!(!plan.files.is_empty(), "heaptrace finds nothing to probe in the target");
        Ok(plan.files)
    }

    /// How many bytes of its code, at the places that heaptrace probes, differ from the file.
    pub fn changed_bytes(&self) -> Result<usize> {
        let (view, plan) = Discoverer::new().discover(self.pid())?;
        let memory = File::open(format!("/proc/{}/mem", self.pid()))?;
        let mut changed = 0;
        for file in &plan.files {
            for probe in file.probes.iter().flat_map(|probe| &probe.sites) {
                let mapping = view
                    .mappings
                    .iter()
                    .find(|mapping| {
                        mapping.permissions.execute
                            && mapping.file() == Some(&file.file.path)
                            && (mapping.offset..mapping.offset + (mapping.end - mapping.start))
                                .contains(&probe.offset)
                    })
                    .context("a probed instruction is not mapped")?;
                let mut byte = [0];
                memory.read_exact_at(&mut byte, mapping.start + (probe.offset - mapping.offset))?;
                changed += usize::from(file.file.read_at(probe.offset, 1)? != byte);
            }
        }
        Ok(changed)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.input = None;
        // It ends at the end of its input; there is nothing to do about an error.
        let _ = self.child.wait();
    }
}
