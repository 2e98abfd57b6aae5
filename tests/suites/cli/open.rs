//! `report --open`, with a stand-in for what opens pages.

use super::{ensure_refused, recordings::recorded, stderr};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::heaptrace;
use std::{
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// Of Debian's account `nobody`.
const NOBODY: (u32, u32) = (65534, 65534);

/// A folder for PATH with an `xdg-open` that notes who runs it and what it is given, where all can write.
struct StandIn {
    folder: TempDir,
}

impl StandIn {
    fn new(script: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let program = folder.path().join("xdg-open");
        fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(Self { folder })
    }

    fn noted(&self) -> PathBuf {
        self.folder.path().join("noted")
    }

    /// `heaptrace report --open`, for whoever has called sudo.
    fn report(&self, file: &Path, sudo: Option<(u32, u32)>) -> Result<Command> {
        let mut command = heaptrace::command(&["report", "--open"])?;
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        command.arg(file).env("PATH", path).env("NOTED", self.noted()).env("DISPLAY", ":7");
        command.env("TMPDIR", self.folder.path()).env_remove("XDG_RUNTIME_DIR").env_remove("SUDO_UID");
        if let Some((user, group)) = sudo {
            command
                .env("SUDO_UID", user.to_string())
                .env("SUDO_GID", group.to_string())
                .env("SUDO_USER", "nobody");
        }
        Ok(command)
    }
}

const NOTE: &str = r#"echo "$(id -u) $(id -g) $(id -G) $1" >"$NOTED""#;

pub fn shown() -> Result<()> {
    let (_folder, file) = recorded()?;
    for (sudo, who) in [(None, (0, 0)), (Some(NOBODY), NOBODY)] {
        let stand_in = StandIn::new(NOTE)?;
        let output = stand_in.report(&file, sudo)?.output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
        let noted = fs::read_to_string(stand_in.noted())?;
        let words: Vec<&str> = noted.split_whitespace().collect();
        let page = Path::new(words.last().context("it was given nothing")?);
        let ids = [who.0, who.1].map(|id| id.to_string());
        ensure!(words[..2] == ids, "{noted:?} is not {who:?}");
        ensure!(
            sudo.is_none() || words[2..words.len() - 1] == [ids[1].as_str()],
            "it has root's groups: {noted}"
        );
        let there = fs::symlink_metadata(page)?;
        ensure!(there.is_file() && there.uid() == who.0 && there.mode() & 0o777 == 0o600, "{there:?}");
        let html = fs::read_to_string(page)?;
        ensure!(html.contains("</html>") && html.contains("site_malloc_a"), "no page of it: {}", html.len());
        ensure!(stderr(&output).contains(&page.display().to_string()), "{}", stderr(&output));
        fs::remove_file(page)?;
    }
    Ok(())
}

/// What a killed heaptrace has written is not opened, and not left.
pub fn half() -> Result<()> {
    let (folder, file) = recorded()?;
    let page = folder.path().join("page.html");
    let report = heaptrace::command(&["report", "-o"])?.arg(&page).arg(&file).output()?;
    ensure!(report.status.success(), "{}", stderr(&report));
    let whole = fs::read(&page)?;
    let stand_in = StandIn::new(NOTE)?;
    for (length, is_whole) in [(whole.len() / 2, false), (whole.len() - 1, false), (whole.len(), true)] {
        let mut opener = heaptrace::command(&["opener"])?;
        let path = format!("{}:/usr/bin:/bin", stand_in.folder.path().display());
        opener.env("PATH", path).env("NOTED", stand_in.noted()).env("TMPDIR", stand_in.folder.path());
        opener.env_remove("XDG_RUNTIME_DIR").stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut opener = opener.spawn()?;
        opener.stdin.take().context("no pipe")?.write_all(&whole[..length])?;
        let output = opener.wait_with_output()?;
        ensure!(output.status.success() == is_whole, "{length}: {}", stderr(&output));
        ensure!(stand_in.noted().exists() == is_whole, "{length} of {} bytes", whole.len());
        let pages = fs::read_dir(stand_in.folder.path())?.filter_map(Result::ok);
        let pages = pages.filter(|entry| entry.path().extension().is_some_and(|of| of == "html")).count();
        ensure!(pages == usize::from(is_whole), "{length}: {pages} pages are left");
        ensure!(is_whole || stderr(&output).contains("the page is not whole"), "{}", stderr(&output));
    }
    Ok(())
}

pub fn refused() -> Result<()> {
    let (folder, file) = recorded()?;
    let stand_in = StandIn::new(NOTE)?;
    let mut blind = stand_in.report(&file, None)?;
    let output = blind.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").output()?;
    ensure_refused(&output, &[1], &["no display to open the page on", "-o heap.html"])?;
    // What there is no report of is not opened.
    let missing = folder.path().join("missing.data");
    ensure_refused(&stand_in.report(&missing, Some(NOBODY))?.output()?, &[2], &["missing.data"])?;
    ensure!(!stand_in.noted().exists(), "something was opened");
    let failing = StandIn::new("exit 3")?;
    let output = failing.report(&file, Some(NOBODY))?.output()?;
    ensure_refused(&output, &[1], &["xdg-open found nothing to show the page with", "the page is in "])?;
    for options in [&["--format", "svg"][..], &["-o", "x.html"]] {
        let output = stand_in.report(&file, None)?.args(options).output()?;
        ensure_refused(&output, &[2], &["--open"])?;
    }
    Ok(())
}
