//! One static binary that runs on any Linux of its architecture, and the proof that it is one.

use std::{
    env::consts::ARCH,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{machine::has_command, repo::Repo, step};

pub fn run(repo: &Repo) -> Result<()> {
    let target = target();
    let mut cargo = repo.cargo();
    cargo.args(["build", "--release", "--package", "heaptrace", "--target", &target]);
    // Line tables are most of the file and no use to whoever only runs it.
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    step::must("dist", &mut cargo)?;

    let built = repo.target().join(&target).join("release/heaptrace");
    let dist = repo.target().join("dist");
    let binary = dist.join("heaptrace");
    fs::create_dir_all(&dist).with_context(|| format!("failed to create {}", dist.display()))?;
    fs::copy(&built, &binary).with_context(|| format!("failed to copy {}", built.display()))?;

    check_static(&binary)?;
    step::must("dist runs", Command::new(&binary).arg("--version"))?;
    let bytes = fs::metadata(&binary).with_context(|| format!("failed to stat {}", binary.display()))?.len();
    eprintln!("{}: static, {:.1} MiB", binary.display(), bytes as f64 / f64::from(1 << 20));
    Ok(())
}

/// musl where its target and its C compiler are installed (zstd is C), else glibc linked statically.
fn target() -> String {
    let musl = format!("{ARCH}-unknown-linux-musl");
    let installed = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == musl));
    if installed && has_command("musl-gcc") { musl } else { format!("{ARCH}-unknown-linux-gnu") }
}

/// A static binary names no interpreter and needs no library.
fn check_static(binary: &Path) -> Result<()> {
    let output = Command::new("readelf")
        .arg("-ldW")
        .arg(binary)
        .env("LC_ALL", "C")
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start readelf")?;
    if !output.status.success() {
        bail!("readelf {}: {}", binary.display(), output.status);
    }
    match dynamic_parts(&String::from_utf8_lossy(&output.stdout))? {
        parts if parts.is_empty() => Ok(()),
        parts => bail!("{} is not static: {}", binary.display(), parts.join("; ")),
    }
}

/// The lines of `readelf -ldW` that tie a binary to a loader or a library.
fn dynamic_parts(readelf: &str) -> Result<Vec<String>> {
    if !readelf.lines().any(|line| line.trim_start().starts_with("LOAD ")) {
        bail!("readelf shows no loadable segment");
    }
    let ties = |line: &&str| line.starts_with("INTERP ") || line.contains("(NEEDED)");
    Ok(readelf.lines().map(str::trim).filter(ties).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::dynamic_parts;

    const LOAD: &str = "  LOAD           0x000000 0x0000000000000000\n";

    #[test]
    fn a_static_binary_has_no_dynamic_parts() {
        let text = format!("{LOAD}  DYNAMIC        0x2f2d30\n 0x000000000000001e (FLAGS)  BIND_NOW\n");
        assert!(dynamic_parts(&text).unwrap().is_empty());
    }

    #[test]
    fn an_interpreter_and_a_needed_library_are_both_told() {
        let text = format!("{LOAD}  INTERP         0x0003d4\n 0x1 (NEEDED)  Shared library: [libc.so.6]\n");
        assert_eq!(dynamic_parts(&text).unwrap().len(), 2);
    }

    #[test]
    fn output_without_segments_proves_nothing() {
        assert!(dynamic_parts("").is_err());
    }
}
