//! heaptrace with the judged build of its BPF programs; what those add up is written to the file that
//! `HEAPTRACE_TALLIES` names, at the end. `HEAPTRACE_LIBRARIES` is `LD_LIBRARY_PATH` to the command, not to heaptrace.

use anyhow::{Context as _, Result};
use aya::maps::Map;
use clap::Parser as _;
use heaptrace::{
    bpf::{OtherBuild, load_instead},
    cli::Cli,
    error::exit_code,
};
use std::{
    env, fs,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/judged.bpf.o"));

static TALLIES: Mutex<Option<Map>> = Mutex::new(None);

/// Also empties it: heaptrace has tried its programs on itself.
fn take(mut map: Map) {
    heaptrace_judged::clear(&mut map);
    *TALLIES.lock().unwrap_or_else(PoisonError::into_inner) = Some(map);
}

fn main() -> ExitCode {
    if let Some(libraries) = env::var_os("HEAPTRACE_LIBRARIES") {
        // SAFETY: no other thread runs yet.
        unsafe { env::set_var("LD_LIBRARY_PATH", libraries) };
    }
    load_instead(OtherBuild { object: OBJECT, map: "TALLIES", take });
    let ended = Cli::parse().command.run().and_then(|code| write().map(|()| code));
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("heaptrace: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn write() -> Result<()> {
    let Some(file) = env::var_os("HEAPTRACE_TALLIES") else { return Ok(()) };
    let map = TALLIES.lock().unwrap_or_else(PoisonError::into_inner).take();
    let table = heaptrace_judged::table(&map.context("no programs were loaded")?)?;
    fs::write(file, serde_json::to_vec(&table)?).context("failed to write the tallies")
}
