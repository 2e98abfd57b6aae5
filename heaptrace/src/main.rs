//! The `heaptrace` command.

use clap::Parser as _;
use heaptrace::{cli::Cli, error::exit_code, printable::say};
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(code) => code,
        Err(err) => {
            say(format_args!("{err:#}"));
            ExitCode::from(exit_code(&err))
        }
    }
}
