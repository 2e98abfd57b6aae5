//! The Rust side of the set-up: a compiler for BPF, bpf-linker, and the components that `test` runs.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{apt, scope::Scope};
use crate::{
    machine::has_command,
    repo::Repo,
    step,
    toolchain::{Compiler, LLVM_MAJOR, Missing, Toolchain, find_linker},
};

const BPF_LINKER: &str = "bpf-linker@0.13.0";

/// Says whether it installed anything.
pub fn bpf_toolchain(repo: &Repo, scope: Scope) -> Result<bool> {
    let mut installed = false;
    if let Err(Missing::Compiler { tried }) = Toolchain::find() {
        eprintln!("no compiler for the BPF programs: {}", tried.join("; "));
        install_compiler()?;
        installed = true;
    }
    if find_linker().is_none() {
        install_linker(repo)?;
        installed = true;
    }
    let toolchain = Toolchain::find().context("the BPF toolchain is still incomplete")?;
    if scope == Scope::Everything && !has_clippy(&toolchain) {
        match toolchain.compiler {
            Compiler::Nightly { .. } => add_components("nightly", &["clippy"])?,
            Compiler::Distribution { .. } => apt::install(&["rust-web-clippy"])?,
        }
        installed = true;
    }
    if installed {
        eprintln!("BPF programs: {}, {}", toolchain.compiler, toolchain.linker.display());
    }
    Ok(installed)
}

/// Debian's compiler first, because it brings `core` ready for the target; without it, rustup's nightly.
fn install_compiler() -> Result<()> {
    if apt::available() {
        match apt::install(&["rustc-web", "libstd-rust-web-dev-bpf"]) {
            Ok(()) if !matches!(Toolchain::find(), Err(Missing::Compiler { .. })) => return Ok(()),
            Ok(()) => eprintln!("the distribution's compiler will not do; trying rustup's nightly"),
            Err(error) => eprintln!("{error:#}; trying rustup's nightly"),
        }
    }
    step::must(
        "rustup nightly",
        Command::new("rustup").args([
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "rust-src",
            "--component",
            "clippy",
        ]),
    )
}

/// Built from source against the LLVM that matches: its default features want another one.
fn install_linker(repo: &Repo) -> Result<()> {
    let prefix = format!("/usr/lib/llvm-{LLVM_MAJOR}");
    if !Path::new(&prefix).join("bin/llvm-config").exists() {
        apt::install(&[&format!("llvm-{LLVM_MAJOR}-dev")])?;
    }
    let feature = format!("llvm-{LLVM_MAJOR}");
    let mut cargo = repo.cargo();
    cargo
        .args(["install", BPF_LINKER, "--locked", "--no-default-features", "--features", &feature])
        // Without it the build finds /usr and then no -lLLVM there.
        .env("LLVM_PREFIX", &prefix)
        .env_remove("RUSTFLAGS");
    step::must("bpf-linker (about a minute)", &mut cargo)
}

fn has_clippy(toolchain: &Toolchain) -> bool {
    match &toolchain.compiler {
        Compiler::Nightly { .. } => {
            succeeds(Command::new("rustup").args(["run", "nightly", "cargo-clippy", "--version"]))
        }
        Compiler::Distribution { rustc, .. } => rustc.with_file_name("clippy-driver").is_file(),
    }
}

/// rustfmt and clippy for the toolchain that runs us. Says whether it installed anything.
pub fn components(repo: &Repo) -> Result<bool> {
    let mut missing = Vec::new();
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !succeeds(repo.cargo().args([subcommand, "--version"])) {
            missing.push(component);
        }
    }
    if missing.is_empty() {
        return Ok(false);
    }
    anyhow::ensure!(
        has_command("rustup"),
        "missing, and there is no rustup to install it: {}",
        missing.join(" ")
    );
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add"]).args(&missing);
    step::must("rustup components", &mut rustup)?;
    Ok(true)
}

fn add_components(toolchain: &str, components: &[&str]) -> Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "--toolchain", toolchain]).args(components);
    step::must("rustup components", &mut rustup)
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
