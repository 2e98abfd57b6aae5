//! What `--help` says, as manual pages, and as completions in a shell.

use super::{USAGE, ensure_refused, stderr, text};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{heaptrace, programs::installed};
use std::{fs, process::Command};
use tempfile::TempDir;

const BIN: &[&str] = &["/usr/bin", "/bin", "/usr/local/bin"];

/// What a command prints, which ends well.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, stderr(&output));
    Ok(String::from_utf8(output.stdout)?)
}

/// The long options in the lines of a help text that begin with one.
fn options(help: &str) -> Vec<&str> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    lines
        .filter_map(|line| line.split([' ', ',', '=']).find(|word| word.starts_with("--") && word.len() > 2))
        .collect()
}

/// `man` shows each page, with all options and examples of that command's help.
pub fn pages() -> Result<()> {
    let folder = TempDir::new()?;
    let mut man = heaptrace::command(&["man", text(folder.path())?])?;
    ensure!(said(&mut man)?.is_empty(), "it prints something");
    let mut seen = 0;
    for page in fs::read_dir(folder.path())? {
        let page = page?.path();
        let name = page.file_stem().and_then(|name| name.to_str()).context("a name")?;
        let command = name.strip_prefix("heaptrace").context("another's page")?.trim_start_matches('-');
        let help = [command, "--help"];
        let help = said(&mut heaptrace::command(&help[usize::from(command.is_empty())..])?)?;
        let mut man = Command::new(installed("man", BIN)?);
        // Wide enough for every example.
        man.args(["--warnings", "-l"]).arg(&page).env("MANWIDTH", "160").env("LC_ALL", "C.UTF-8");
        let output = man.output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{name}: {}", stderr(&output));
        let shown = String::from_utf8(output.stdout)?;
        ensure!(shown.contains(&format!("{name} - ")), "{shown}");
        for option in options(&help) {
            ensure!(shown.contains(option), "{name} has no {option}: {shown}");
        }
        let examples: Vec<_> = help.lines().filter(|line| line.starts_with("  heaptrace ")).collect();
        ensure!(!examples.is_empty(), "{name}: {help}");
        for example in examples {
            // Long ones go on in another line of the help.
            let is_it = |line: &str| line.trim().starts_with(example.trim());
            ensure!(shown.lines().any(is_it), "{name} does not show {example:?} in a line: {shown}");
        }
        seen += 1;
    }
    ensure!(seen > 10, "{seen} pages");
    let page = said(&mut heaptrace::command(&["man"])?)?;
    ensure!(page == fs::read_to_string(folder.path().join("heaptrace.1"))?, "{page}");
    Ok(())
}

/// What bash offers in the place of the last word.
fn completed(words: &[&str]) -> Result<Vec<String>> {
    let script = "source <(\"$0\" completions bash)
        COMP_WORDS=(heaptrace \"$@\") COMP_CWORD=$#
        _heaptrace heaptrace \"${COMP_WORDS[$COMP_CWORD]}\" \"${COMP_WORDS[$((COMP_CWORD - 1))]}\"
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new(installed("bash", BIN)?);
    let offered = said(bash.args(["--norc", "-c", script]).arg(heaptrace::binary()?).args(words))?;
    Ok(offered.lines().map(str::to_owned).collect())
}

pub fn completions() -> Result<()> {
    let commands = completed(&["re"])?;
    ensure!(commands == ["record", "report"], "{commands:?}");
    let all = completed(&[""])?;
    ensure!(all.iter().any(|word| word == "doctor"), "{all:?}");
    ensure!(
        !all.iter().any(|word| word.contains("symbolizer")),
        "what is not for people is offered: {all:?}"
    );
    let options = completed(&["record", "--budg"])?;
    ensure!(options == ["--budget"], "{options:?}");
    let formats = completed(&["report", "--format", "p"])?;
    ensure!(formats == ["pprof"], "{formats:?}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = said(&mut heaptrace::command(&["completions", shell])?)?;
        ensure!(script.contains("when-growing"), "{shell}: {script}");
        ensure!(!script.contains("symbolizer"), "{shell} offers what is not for people");
    }
    Ok(())
}

/// An ending that stands for nothing is no text.
pub fn unknown_ending() -> Result<()> {
    let folder = TempDir::new()?;
    for command in [&["report", "/dev/null"][..], &["diff", "/dev/null", "/dev/null"]] {
        let file = folder.path().join("heap.sgv");
        let output = heaptrace::output(&[command, &["-o", text(&file)?]].concat())?;
        ensure_refused(&output, &[USAGE], &["heap.sgv stands for no format", "*.svg", "*.json", "--format"])?;
        ensure!(!file.exists(), "it was written all the same");
    }
    Ok(())
}
