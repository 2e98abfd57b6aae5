//! Keys, sizes, and the terminal before and after; nothing is traced.

use crate::{ENTER, ESC, pids, start};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    running::{PATIENCE, Running, wait_until},
    steps::Steps,
    terminal::Terminal,
};
use std::process::Command;
use tempfile::TempDir;

const F5: &str = "\x1b[15~";

pub fn keys() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    // A shell with two children, one of which holds memory.
    let script = "sleep 1000 & python3 -c 'import time; b = b\"x\" * 50_000_000; time.sleep(1000)' & wait";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    let shell = Running::spawn(shell, "shell", folder)?;
    let pid = shell.pid().to_string();
    let mut top = start(&["--no-growth", "-p", &pid], (110, 30), folder)?;
    // More than 50 MB are resident.
    let is_large = |line: &str| line.contains("python3 -c") && line.split_whitespace().nth(4) > Some("50");
    top.wait_for("the shell and its children", |screen| {
        screen.contains("sleep 1000") && pids(screen).len() == 3 && screen.lines().any(is_large)
    })?;
    // By size: Python first, and last when reversed.
    top.press("/")?;
    top.wait_for_text("Filter:")?;
    top.press("res>40M")?;
    let large = top.wait_for("the large one alone", |screen| pids(screen).len() == 1)?;
    let python = pids(&large)[0];
    ensure!(large.contains("python3"), "{large}");
    top.press(ENTER)?;
    top.wait_for_text("1 of 3 found by res>40M")?;
    top.press(ESC)?;
    top.wait_for("all again", |screen| pids(screen).len() == 3)?;
    top.press("/rss>1\r")?;
    top.wait_for_text("there is no column rss")?;
    top.press("\x15\x1b")?;
    top.wait_for_text("F5 tree")?;
    // The columns to the left of growth are heap and res.
    top.press("<<")?;
    top.wait_for("sorted by RES", |screen| screen.contains("RES↓") && pids(screen)[0] == python)?;
    top.press("r")?;
    top.wait_for("reversed", |screen| screen.contains("RES↑") && pids(screen)[2] == python)?;
    top.press("r")?;
    top.press(F5)?;
    let tree = top.wait_for("a tree", |screen| screen.contains("└─ "))?;
    ensure!(pids(&tree)[0] == shell.pid() && pids(&tree)[1] == python, "no parents first:\n{tree}");
    top.press("c")?;
    top.wait_for_text("CGROUP")?;
    top.press("?")?;
    top.wait_for("help", |screen| {
        screen.contains("help: Up and Down scroll") && screen.contains("tree of parents and children")
    })?;
    top.press("\x1b[6~\x1b[6~")?;
    top.wait_for_text("Processes that live for less than an interval may not be seen")?;
    top.press(ESC)?;
    top.wait_for("no help", |screen| !screen.contains("help: "))?;
    top.press(ESC)?;
    top.wait_for_text("nothing is open; q quits")?;
    // F6: the first of the menu is the PID.
    top.press("\x1b[17~")?;
    top.wait_for_text("sort by")?;
    top.press("\x1b[H\r")?;
    top.wait_for_text("PID↓")?;
    top.press(" ")?;
    top.wait_for_text("PAUSED")?;
    top.press(" ")?;
    top.wait_for("going on", |screen| !screen.contains("PAUSED"))?;
    top.press("q")?;
    ensure!(top.wait()?.success(), "q is no failure");
    Ok(())
}

pub fn resized() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let steps = Steps::start(folder)?;
    let mut top = start(&["--no-growth", "-p", &steps.pid().to_string()], (80, 24), folder)?;
    let first = top.wait_for_text("q quit")?;
    ensure!(first.lines().count() == 24 && first.contains("GROW/m"), "{first}");
    top.resize((40, 10))?;
    let small = top.wait_for("a small screen", |screen| screen.contains("no room for TREND"))?;
    ensure!(small.lines().count() == 10, "{small}");
    top.resize((120, 40))?;
    let large =
        top.wait_for("a large screen", |screen| screen.lines().count() == 40 && screen.contains("MAP/m"))?;
    ensure!(large.contains("F5 tree"), "{large}");
    for size in [(1, 1), (3, 2), (20, 4), (10, 50), (200, 3)] {
        // Help, the menu, a process and back: somewhere in between there is a screen of this size.
        for keys in ["?", "j", "q", "/x", "\x15", "\r", "\x1b[17~", "q", "\r", "\r", "s", "q"] {
            top.resize(size)?;
            top.press(keys)?;
        }
    }
    top.resize((80, 24))?;
    top.press("\x0c")?;
    top.wait_for("the list", |screen| screen.contains("q quit") && screen.contains("steps"))?;
    top.press("q")?;
    let status = top.wait()?;
    ensure!(status.success(), "q is no failure: {status}\n{}", top.text());
    Ok(())
}

pub fn restored() -> Result<()> {
    let folder = TempDir::new()?;
    let drawn = |top: &mut Terminal| -> Result<()> {
        top.wait_for_text("q quit")?;
        ensure!(
            top.with_screen(|screen| screen.alternate_screen() && screen.hide_cursor()),
            "no screen of its own"
        );
        Ok(())
    };
    for (name, end) in [("q", "q"), ("Ctrl-C", "\x03"), ("F10", "\x1b[21~"), ("SIGTERM", ""), ("SIGINT", "")]
    {
        // A shell keeps the terminal for a moment before, and after.
        let mut command = heaptrace::command(&["top", "--no-growth"])?;
        command.current_dir(folder.path());
        let mut top = Terminal::run(command, (80, 24))?;
        drawn(&mut top)?;
        let during = top.modes()?;
        match name {
            "SIGTERM" => top.signal(libc::SIGTERM)?,
            "SIGINT" => top.signal(libc::SIGINT)?,
            _ => top.press(end)?,
        }
        let status = top.wait()?;
        ensure!(status.success(), "{name}: ended with {status}");
        let after = top.modes()?;
        ensure!(during != after, "{name}: the terminal was never in raw mode");
        let fresh = Terminal::run(Command::new("true"), (80, 24))?.modes()?;
        ensure!(after == fresh, "{name}: the modes are {after:?}, were {fresh:?}");
        // What it wrote last may be on its way.
        let back = || Ok(top.with_screen(|screen| !screen.alternate_screen() && !screen.hide_cursor()));
        wait_until(PATIENCE, back).with_context(|| format!("{name}: the screen is not as before"))?;
    }
    Ok(())
}

pub fn suspended() -> Result<()> {
    let folder = TempDir::new()?;
    let top = heaptrace::command(&["top", "--no-growth", "-i", "100ms"])?;
    let mut shell = Command::new("bash");
    let script = "set -m; \"$@\"; echo STOPPED; read -r word; fg; echo DONE; read -r word";
    shell.args(["-c", script, "bash"]).arg(top.get_program()).args(top.get_args()).current_dir(folder.path());
    let mut terminal = Terminal::run(shell, (80, 24))?;
    terminal.wait_for_text("q quit")?;
    terminal.press("\x1a")?;
    terminal.wait_for_text("STOPPED")?;
    ensure!(terminal.with_screen(|screen| !screen.alternate_screen()), "not the shell's screen");
    terminal.press("\r")?;
    terminal.wait_for("top again", |screen| screen.contains("q quit") && !screen.contains("STOPPED"))?;
    terminal.press("q")?;
    terminal.wait_for_text("DONE")?;
    terminal.press("\r")?;
    ensure!(terminal.wait()?.success(), "q is no failure");
    Ok(())
}
