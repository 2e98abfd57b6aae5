//! Where things are in the repository, and which targets cargo knows in it.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

pub struct Repo {
    root: PathBuf,
    target: PathBuf,
    cargo: OsString,
}

impl Repo {
    /// # Errors
    /// When xtask was not started by cargo and its sources are gone.
    pub fn find() -> Result<Self> {
        // Cargo sets it for `cargo run`; the directory of compile time stands in when xtask runs by itself.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).parent().context("xtask has no parent directory")?.to_owned();
        if !root.join("Cargo.toml").is_file() {
            bail!("no workspace in {}", root.display());
        }
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => env::current_dir().context("failed to read the current directory")?.join(dir),
            None => root.join("target"),
        };
        Ok(Self { root, target, cargo: env::var_os("CARGO").unwrap_or_else(|| "cargo".into()) })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target directory of the outer workspace.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The BPF crate, a workspace of its own.
    pub fn bpf(&self) -> PathBuf {
        self.root.join("heaptrace-ebpf")
    }

    /// The cargo that runs us, in the repository's root.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(&self.cargo);
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        cargo
    }

    /// Names of the targets of one kind ("test", "bench"), with the package each belongs to, in cargo's order.
    pub fn targets(&self, kind: &str) -> Result<Vec<Target>> {
        let output = self
            .cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("failed to run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", output.status);
        }
        let metadata: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("failed to read cargo's metadata")?;
        let mut found = Vec::new();
        for package in metadata["packages"].as_array().into_iter().flatten() {
            for target in package["targets"].as_array().into_iter().flatten() {
                let is_kind =
                    target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind));
                if let (true, Some(package), Some(name)) =
                    (is_kind, package["name"].as_str(), target["name"].as_str())
                {
                    found.push(Target { package: package.to_owned(), name: name.to_owned() });
                }
            }
        }
        Ok(found)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub package: String,
    pub name: String,
}
