//! Builds the BPF programs, which are a workspace of their own, and leaves the object as
//! `$OUT_DIR/heaptrace.bpf.o` for the crate to embed. Which compiler and linker: see `xtask/src/toolchain.rs`.

#![expect(clippy::disallowed_methods, reason = "what a build reads is its own")]

#[path = "../xtask/src/toolchain.rs"]
#[expect(dead_code, reason = "xtask uses the rest of this file")]
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use toolchain::{Toolchain, object};

/// Relative to the repository's root.
const INPUTS: &[&str] = &[
    "Cargo.toml",
    "heaptrace-common/Cargo.toml",
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
    let root = manifest.parent().ok_or("the crate has no parent directory")?;
    for input in INPUTS {
        rerun_if_changed(&root.join(input));
    }

    let toolchain = Toolchain::find().map_err(|missing| {
        format!(
            "cannot build the BPF programs: {missing}\n\nInstall what is missing with:\n\n    ./x setup\n"
        )
    })?;
    rerun_if_changed(toolchain.compiler.rustc());
    rerun_if_changed(&toolchain.linker);

    let dir = root.join("heaptrace-ebpf");
    let result = toolchain
        .build(&dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("failed to run cargo for the BPF programs: {error}"))?;
    let log = String::from_utf8_lossy(&result.stderr);
    eprint!("{log}");
    if !result.status.success() {
        return Err(format!(
            "failed to build the BPF programs with {}: {}",
            toolchain.compiler, result.status
        ));
    }
    // A build script that succeeds is silent, and a warning must not be.
    for line in log.lines().filter(|line| line.starts_with("warning")) {
        println!("cargo::warning=BPF programs: {line}");
    }
    let object = object(&dir);
    fs::copy(&object, out.join("heaptrace.bpf.o"))
        .map(drop)
        .map_err(|error| format!("failed to copy {}: {error}", object.display()))
}

fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
