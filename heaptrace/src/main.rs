//! The `heaptrace` command.

use dlmalloc::GlobalDlmalloc;
use heaptrace::{cli, error::exit_code, printable::say};
use std::process::ExitCode;

/// Not the C library's: where that is probed for all processes, each of our own calls would take a trap, too, and following
/// a thousand new processes a second took twice the time.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command.run() {
        Ok(code) => code,
        Err(err) => {
            say(format_args!("{err:#}"));
            ExitCode::from(exit_code(&err))
        }
    }
}
