//! Builds the BPF programs of the judged build and of the judge, for the two programs of this crate to embed.

#[path = "../../xtask/src/toolchain.rs"]
#[expect(dead_code, reason = "xtask uses the rest of this file")]
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use toolchain::{Toolchain, judged_objects};

/// Relative to the repository's root.
const INPUTS: &[&str] = &[
    "heaptrace-common/src",
    "heaptrace-ebpf/.cargo/config.toml",
    "heaptrace-ebpf/Cargo.lock",
    "heaptrace-ebpf/Cargo.toml",
    "heaptrace-ebpf/src",
    "xtask/src/toolchain.rs",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let root = manifest.ancestors().nth(2).ok_or("the crate is not in the repository")?;
    for input in INPUTS {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let toolchain = Toolchain::find()
        .map_err(|missing| format!("cannot build the BPF programs: {missing}; `./x setup` installs it"))?;
    let dir = root.join("heaptrace-ebpf");
    let result = toolchain
        .build_judged(&dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("failed to run cargo for the BPF programs: {error}"))?;
    eprint!("{}", String::from_utf8_lossy(&result.stderr));
    if !result.status.success() {
        return Err(format!("failed to build the BPF programs: {}", result.status));
    }
    for (object, name) in judged_objects(&dir).iter().zip(["judged.bpf.o", "judge.bpf.o"]) {
        copy(object, &out.join(name))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map(drop).map_err(|error| format!("failed to copy {}: {error}", from.display()))
}
