//! Makes the pictures of the documentation from real runs, as root:
//!
//! `cargo run -p heaptrace-tests --example picture -- SCENE OUT.svg [COLUMNS LINES]`
//!
//! SCENE is `top` or `process`, which start programs of their own to be looked at; or `run`, which takes a command line
//! behind `--` and pictures what it printed on a terminal once it has ended. `HEAPTRACE_BIN` names the binary.

use anyhow::{Context as _, Result, bail};
use heaptrace_tests::{heaptrace, picture, programs::installed, running::Running, terminal::Terminal};
use std::{env, fs, process::Command, thread, time::Duration};
use tempfile::TempDir;

/// A program that grows, as programs do: a cache that nobody empties.
const GROWING: &str = "
import time
sessions = {}
def remember(user):
    sessions[user] = bytearray(20_000)
def serve():
    for user in range(100_000):
        remember(user)
        time.sleep(0.004)
serve()
";

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

/// `heaptrace top` on a redis and a Python program that grows, which is traced.
fn top(size: (u16, u16), folder: &TempDir, open: bool) -> Result<Terminal> {
    let script = folder.path().join("worker.py");
    fs::write(&script, GROWING)?;
    let mut python = Command::new(installed("python3", &["/usr/bin"])?);
    python.arg("worker.py").current_dir(folder.path());
    let python = Running::spawn(python, "python", folder.path())?;
    let mut redis = Command::new(installed("redis-server", &["/usr/bin"])?);
    redis.args(["--port", "0", "--unixsocket"]).arg(folder.path().join("redis.sock")).arg("--save").arg("");
    let redis = Running::spawn(redis, "redis", folder.path())?;
    let pids = format!("{},{}", python.pid(), redis.pid());
    let mut top = heaptrace::command(&["top", "-p", &pids])?;
    top.current_dir(folder.path());
    let mut terminal = Terminal::run(top, size)?;
    terminal.wait_for_text("worker.py")?;
    terminal.press("t")?;
    terminal.wait_for_text("Enter: trace")?;
    terminal.press("\r")?;
    terminal.wait_for_text("is traced")?;
    if open {
        terminal.press("\r")?;
        terminal.wait_for_text("CALLED BY")?;
    }
    // Until there is something to be seen.
    thread::sleep(Duration::from_secs(8));
    if open {
        terminal.press("\r")?;
        terminal.wait_for_text("▾")?;
    }
    Ok(terminal)
}
