//! Programs that rest after each thing they do, so that they can be looked at.

use crate::{
    programs::Program,
    running::wait_for_file,
    session::{Waiting, ledger_file},
};
use anyhow::{Result, ensure};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// What each step leaks, in bytes and blocks.
pub const LEAKED: (u64, u64) = (12 * 1009 + 2 * 66, 12);
/// What it holds from its first step to its third.
pub const CACHED: (u64, u64) = (5 * 40009 + 2 * 10, 5);

/// The program `steps`, step by step.
pub struct Steps(pub Waiting);

impl Steps {
    /// Starts it; it waits. `folder` gets its files.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_copy(&Program::C("steps").compile()?, folder)
    }

    /// The same with a copy of the program.
    pub fn start_copy(program: &Path, folder: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.env("LEDGER_OUT", ledger_file(folder));
        for step in 1..=3 {
            for word in ["DONE", "GO"] {
                let name = format!("STEP{step}_{word}");
                command.env(&name, folder.join(&name));
            }
        }
        Waiting::start(command, folder).map(Self)
    }

    pub fn pid(&self) -> u32 {
        self.0.target.pid()
    }

    /// Lets the program do its next step, and waits until that is done.
    pub fn step(&mut self, step: u32, folder: &Path) -> Result<()> {
        match step {
            1 => self.0.go()?,
            _ => drop(File::create(folder.join(format!("STEP{}_GO", step - 1)))?),
        }
        wait_for_file(&folder.join(format!("STEP{step}_DONE")), &mut self.0.target)
    }

    /// After the last step.
    pub fn end(&mut self, folder: &Path) -> Result<()> {
        File::create(folder.join("STEP3_GO"))?;
        let status = self.0.target.wait()?;
        ensure!(status.success(), "the program ended with {status}");
        Ok(())
    }
}

/// The program `resting`, told what to do and not to go on yet.
pub struct Resting {
    pub waiting: Waiting,
    done: PathBuf,
    /// Once it is there, the child allocates.
    pub child: PathBuf,
    end: PathBuf,
}

impl Resting {
    pub fn start(what: &str, folder: &Path) -> Result<Self> {
        let [done, child, end] = ["done", "child", "end"].map(|name| folder.join(name));
        let mut command = Command::new(Program::C("resting").compile()?);
        command.arg(what).env("RESTING_DONE", &done).env("RESTING_CHILD", &child).env("RESTING_END", &end);
        Ok(Self { waiting: Waiting::start(command, folder)?, done, child, end })
    }

    pub fn pid(&self) -> u32 {
        self.waiting.target.pid()
    }

    pub fn wait_done(&mut self) -> Result<()> {
        wait_for_file(&self.done, &mut self.waiting.target)
    }

    pub fn end(&mut self) -> Result<()> {
        fs::write(&self.end, "")?;
        let status = self.waiting.target.wait()?;
        ensure!(status.success(), "the program ended with {status}");
        Ok(())
    }
}
