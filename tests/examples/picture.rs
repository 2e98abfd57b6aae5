//! Makes the pictures of the documentation from real runs, as root:
//!
//! `cargo run -p heaptrace-tests --example picture -- SCENE OUT.svg [COLUMNS LINES]`
//!
//! SCENE is `top` or `process`, which start programs of their own to be looked at; or `run`, which takes a command line
//! behind `--` and pictures what it printed on a terminal once it has ended. `HEAPTRACE_BIN` names the binary.

use anyhow::{Context as _, Result, bail};
use heaptrace_tests::{
    heaptrace, picture,
    programs::{Program, installed},
    running::Running,
    terminal::Terminal,
};
use std::{env, fs, process::Command, thread, time::Duration};
use tempfile::TempDir;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (ours, command) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (&arguments[..], &[][..]),
    };
    let [scene, output, size @ ..] = ours else {
        bail!("usage: picture SCENE OUT.svg [COLUMNS LINES] [-- COMMAND]")
    };
    let size = match size {
        [columns, lines] => (columns.parse()?, lines.parse()?),
        _ => (100, 24),
    };
    let folder = TempDir::new()?;
    let terminal = match (scene.as_str(), command) {
        ("top", _) => top(size, &folder, false)?,
        ("process", _) => top(size, &folder, true)?,
        ("run", [program, arguments @ ..]) => {
            let mut command = Command::new(program);
            command.args(arguments);
            let mut terminal = Terminal::run(command, size)?;
            terminal.wait()?;
            terminal
        }
        _ => bail!("no such scene, or no command: {scene}"),
    };
    println!("{}", terminal.text());
    let svg = picture::svg(&terminal);
    fs::write(output, &svg).with_context(|| format!("failed to write {output}"))?;
    println!("{output}: {} bytes", svg.len());
    Ok(())
}

/// `heaptrace top` on some servers, one of which grows and is traced.
fn top(size: (u16, u16), folder: &TempDir, open: bool) -> Result<Terminal> {
    let path = folder.path();
    let mut redis = Command::new(installed("redis-server", &["/usr/bin"])?);
    redis.args(["--port", "0", "--save", "", "--unixsocket", "redis.sock"]).current_dir(path);
    let redis = Running::spawn(redis, "redis", path)?;
    let mut python = Command::new(installed("python3", &["/usr/bin"])?);
    python.args(["-m", "http.server", "--bind", "127.0.0.1", "0"]).current_dir(path);
    let python = Running::spawn(python, "python", path)?;
    let serving = Running::spawn(Command::new(Program::C("serving").compile()?), "serving", path)?;
    let pids = [&redis, &python, &serving].map(|server| server.pid().to_string()).join(",");
    let mut top = heaptrace::command(&["top", "-p", &pids])?;
    top.current_dir(path);
    let mut terminal = Terminal::run(top, size)?;
    terminal.wait_for("the servers", |screen| {
        let first = screen.lines().skip_while(|line| !line.contains("PID ")).nth(1);
        first.is_some_and(|first| first.ends_with("serving")) && screen.contains("http.server")
    })?;
    terminal.press("\x1b[Ht")?;
    terminal.wait_for_text("Enter: trace")?;
    terminal.press("\r")?;
    terminal.wait_for_text("is traced")?;
    if open {
        terminal.press("\r")?;
        terminal.wait_for_text("CALLED BY")?;
    }
    // Until there is something to be seen.
    thread::sleep(Duration::from_secs(50));
    if open {
        terminal.press("\r")?;
        terminal.wait_for("a stack", |screen| screen.contains('▾') && screen.contains("  main serving.c"))?;
    } else {
        // The selection would hide the colours.
        terminal.press("\x1b[B\x1b[B")?;
        thread::sleep(Duration::from_secs(2));
    }
    Ok(terminal)
}
