//! Developer commands: what they are called. What they do is one module each.

mod bench;
mod build;
mod demo;
mod dist;
mod failures;
mod layers;
mod machine;
mod repo;
mod setup;
mod step;
mod suite;
mod test;
#[expect(dead_code, reason = "heaptrace/build.rs uses the rest of this file")]
mod toolchain;
mod vmtest;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{repo::Repo, setup::Scope};

#[derive(Parser)]
#[command(name = "xtask", about = "Builds, runs and tests heaptrace", disable_help_subcommand = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing for building and testing; does nothing where nothing is missing
    Setup,
    /// Build heaptrace
    Build {
        /// With optimizations, to target/release/heaptrace
        #[arg(long)]
        release: bool,
    },
    /// Build the release binary and run it with ARGS; without ARGS, record a real program and print the report
    Run {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Formatting, lints, unit and golden tests, then the end-to-end tests, which trace real processes
    Test {
        /// Leave the end-to-end tests out, for a machine that may not load BPF programs
        #[arg(long)]
        no_bpf: bool,
        /// Also the tests that take minutes or gigabytes
        #[arg(long)]
        all: bool,
    },
    /// Look for circles of files and folders, and for calls up the layers of ARCHITECTURE.md; `test` does, too
    Layers,
    /// Run the benchmarks
    Bench,
    /// Run end-to-end tests on Debian's kernels in QEMU: 5.10, 6.1, 6.12, newest, or the suites' names
    Vmtest {
        kernels: Vec<String>,
        /// Only tests with this in their name
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// Build one static binary, target/dist/heaptrace
    Dist,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let repo = Repo::find()?;
    match command {
        Command::Setup => {
            setup::run(&repo, Scope::Everything)?;
            for (suite, reason) in setup::releases::fetch(&repo) {
                eprintln!("xtask: tests on libraries of {suite} cannot run: {reason}");
            }
            if let Err(reason) = setup::schemas::fetch(&repo) {
                eprintln!("xtask: tests on schemas of npm's packages cannot run: {reason:#}");
            }
            if let Err(reason) = setup::pypi::fetch(&repo) {
                eprintln!("xtask: tests with packages of PyPI cannot run: {reason:#}");
            }
            if let Err(reason) = setup::browser::fetch(&repo) {
                eprintln!("xtask: tests in a browser cannot run: {reason:#}");
            }
        }
        Command::Build { release } => {
            setup::run(&repo, Scope::Build)?;
            build::run(&repo, release)?;
        }
        Command::Run { args } if args.is_empty() => {
            setup::run(&repo, Scope::Demo)?;
            return demo::run(&build::run(&repo, true)?);
        }
        Command::Run { args } => {
            setup::run(&repo, Scope::Build)?;
            return build::exec(&build::run(&repo, true)?, &args);
        }
        Command::Test { no_bpf, all } => {
            setup::run(&repo, Scope::Everything)?;
            return test::run(&repo, no_bpf, all);
        }
        Command::Layers => {
            let faults = layers::faults(&repo)?;
            faults.iter().for_each(|fault| println!("{fault}"));
            return Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Bench => {
            setup::run(&repo, Scope::Everything)?;
            bench::run(&repo)?;
        }
        Command::Vmtest { kernels, only } => {
            setup::run(&repo, Scope::Build)?;
            setup::emulator()?;
            return vmtest::run(&repo, &kernels, only.as_deref());
        }
        Command::Dist => {
            setup::run(&repo, Scope::Build)?;
            dist::run(&repo)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
