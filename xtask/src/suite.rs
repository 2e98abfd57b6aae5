//! Packages of another suite of Debian, from the mirror that this machine's apt uses: downloaded and unpacked, not
//! installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::step;

/// apt with package lists of its own, for another suite of the same mirror; the machine's are left as they are.
pub struct Apt {
    suite: String,
    folder: PathBuf,
    pub architecture: String,
}

impl Apt {
    /// Keeps lists in `folder`, and what it unpacks in `folder/root`.
    ///
    /// # Errors
    /// When apt has no mirror of Debian, or the folder cannot be written.
    pub fn new(folder: &Path, suite: &str) -> Result<Self> {
        for part in ["lists/partial", "root"] {
            fs::create_dir_all(folder.join(part))
                .with_context(|| format!("failed to create {}", folder.display()))?;
        }
        let architecture = output(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
        let mirrors = output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
            "Label: Debian",
        ]))?;
        let mirror = mirrors.lines().next().context("no Debian mirror in apt's configuration")?;
        fs::write(folder.join("sources.list"), format!("deb {mirror} {suite} main\n"))
            .context("failed to write a sources list")?;
        Ok(Self { suite: suite.to_owned(), folder: folder.to_owned(), architecture })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |part: &str| self.folder.join(part).display().to_string();
        command.current_dir(&self.folder).args([
            format!("-oDir::Etc::SourceList={}", at("sources.list")),
            "-oDir::Etc::SourceParts=/dev/null".to_owned(),
            format!("-oDir::State::Lists={}", at("lists")),
            "-oDir::State::status=/dev/null".to_owned(),
            "-oDir::Cache::pkgcache=".to_owned(),
            "-oDir::Cache::srcpkgcache=".to_owned(),
            "-oAcquire::Languages=none".to_owned(),
            "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // The archive's folder may belong to root alone.
            "-oAPT::Sandbox::User=".to_owned(),
        ]);
        command
    }

    /// Fetches the lists.
    ///
    /// # Errors
    /// When apt-get cannot.
    pub fn update(&self) -> Result<()> {
        step::must(
            &format!("package lists of {}", self.suite),
            self.command("apt-get").args(["update", "-q"]),
        )
    }

    /// Whether the suite has a package of this very name.
    ///
    /// # Errors
    /// When apt-cache fails.
    pub fn has(&self, package: &str) -> Result<bool> {
        // A line for each version; none where the name is unknown, or only something that others provide.
        Ok(!output(self.command("apt-cache").args(["madison", package]))?.trim().is_empty())
    }

    /// Downloads `package` and unpacks it.
    ///
    /// # Errors
    /// When the suite has no such package, or it cannot be fetched or unpacked.
    pub fn download(&self, package: &str) -> Result<()> {
        step::must(
            &format!("download {package}"),
            self.command("apt-get").args(["download", "-q", package]),
        )?;
        let prefix = format!("{package}_");
        let archive = fs::read_dir(&self.folder)?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .with_context(|| format!("apt-get left no archive of {package}"))?
            .path();
        let unpack = Command::new("dpkg-deb")
            .arg("-x")
            .arg(&archive)
            .arg(self.folder.join("root"))
            .status()
            .context("failed to start dpkg-deb")?;
        ensure!(unpack.success(), "failed to unpack {}: {unpack}", archive.display());
        fs::remove_file(&archive).with_context(|| format!("failed to remove {}", archive.display()))
    }

    /// What `apt-cache depends` prints of `package`.
    ///
    /// # Errors
    /// When apt-cache fails.
    pub fn depends(&self, package: &str) -> Result<String> {
        output(self.command("apt-cache").args(["depends", package]))
    }
}

/// The standard output of a command that has to succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("failed to start {shown}"))?;
    ensure!(output.status.success(), "{shown}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
