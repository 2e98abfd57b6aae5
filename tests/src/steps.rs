//! The program `steps`, step by step.

use crate::{
    programs::Program,
    running::wait_for_file,
    session::{Waiting, ledger_file},
};
use anyhow::{Result, ensure};
use std::{fs::File, path::Path, process::Command};

/// What each step leaks, in bytes and blocks.
pub const LEAKED: (u64, u64) = (12 * 1009 + 2 * 66, 12);
/// What it holds from its first step to its third.
pub const CACHED: (u64, u64) = (5 * 40009 + 2 * 10, 5);

/// See the module.
pub struct Steps(pub Waiting);

impl Steps {
    /// Starts it; it waits. `folder` gets its files.
    pub fn start(folder: &Path) -> Result<Self> {
        let mut command = Command::new(Program::C("steps").compile()?);
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
