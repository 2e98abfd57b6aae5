//! The page in Chromium, by playwright-core: what it shows, and what becomes of it by each interaction. `page/drive.js` does
//! it, and holds what it sees against the JSON report of the same recording.

use crate::recorded::{Recorded, printed};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::{Program, copy, installed},
    session::{Session, ledger_file},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const BIN: &[&str] = &["/usr/bin", "/usr/local/bin"];

fn playwright() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/npm/playwright-core/package")
}

/// What is not there of the browser and what drives it, if anything.
pub fn missing() -> Option<String> {
    let is_driven = playwright().join("package.json").is_file();
    let is_there = is_driven && ["chromium", "node"].iter().all(|program| installed(program, BIN).is_ok());
    (!is_there).then(|| "chromium or playwright-core is not there; `./x test` fetches them".to_owned())
}

/// Does what `drive.js` has under the name `what`, with the page and the JSON report of a recording.
pub fn drive(what: &str, folder: &Path) -> Result<String> {
    let export = |name: &str, options: &[&str]| -> Result<PathBuf> {
        let file = folder.join(format!("{what}-{name}"));
        let report = heaptrace::command(&["report", "-o"])?
            .arg(&file)
            .args(options)
            .arg(heaptrace::record_file(folder))
            .output()
            .context("failed to run heaptrace")?;
        ensure!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
        Ok(file)
    };
    let mut node = Command::new(installed("node", BIN)?);
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/formats/page/drive.js"))
        .arg(playwright())
        .arg(installed("chromium", BIN)?)
        .args([what.as_ref(), export("heap.html", &[])?.as_os_str(), export("heap.json", &[])?.as_os_str()]);
    if what == "frames" {
        node.arg(export("heap.txt", &["--view", "alloc", "--percent-limit", "0"])?);
    }
    let seen = printed(&mut node)?;
    ensure!(seen.trim_end().ends_with("as expected"), "{what}: {seen}");
    Ok(seen)
}

/// What concerns one process, with the recording that other formats are tested with.
pub fn of_one(what: &'static str) -> impl FnOnce() -> Result<()> + Send {
    move || drive(what, Recorded::get()?.folder()).map(drop)
}

pub fn several() -> Result<()> {
    let session = Session::new(Program::C("process"), &["fork"]).options(&["--exact-children"]);
    drive("several", Recorded::of(&session)?.folder()).map(drop)
}

/// Frames that are not the user's, of a program that has many of them.
pub fn frames() -> Result<()> {
    drive("frames", Recorded::of(&Session::new(Program::Cpp("objects"), &[]))?.folder()).map(drop)
}

/// Very many stacks; tells how long the page's longest tasks took.
pub fn smooth() -> Result<()> {
    let recorded = Recorded::of(&Session::new(Program::C("many"), &["stacks", "20000"]))?;
    eprint!("{}", drive("smooth", recorded.folder())?);
    Ok(())
}

/// A program whose name is HTML, recorded without frees.
pub fn hostile() -> Result<()> {
    const NAME: &str = "<img src=x>";
    let folder = TempDir::new()?;
    let program = folder.path().join(NAME);
    copy(&Program::C("plain").compile()?, &program)?;
    let recorded = heaptrace::command(&["record", "--trace=allocs", "-o"])?
        .arg(heaptrace::record_file(folder.path()))
        .arg("--")
        .arg(&program)
        .env("LEDGER_OUT", ledger_file(folder.path()))
        .output()?;
    ensure!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    let page = folder.path().join("page.html");
    let report = heaptrace::command(&["report", "--format=html", "-o"])?
        .arg(&page)
        .arg(heaptrace::record_file(folder.path()))
        .output()?;
    ensure!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
    ensure!(!fs::read_to_string(&page)?.contains("<img"), "a name is HTML in the page");
    drive("hostile", folder.path()).map(drop)
}
