//! The `heaptrace` binary under test: built once per test process, or named by `HEAPTRACE_BIN`.

use crate::{report::Report, running::Running};
use anyhow::{Context as _, Result, anyhow, bail};
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// Path of the binary; builds it on first use.
///
/// # Errors
/// When `cargo build` fails or does not say where the binary is.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BINARY.get_or_init(|| named_or_built().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => Err(anyhow!("{error}")),
    }
}

fn named_or_built() -> Result<PathBuf> {
    if let Some(path) = env::var_os("HEAPTRACE_BIN") {
        return std::path::absolute(path).context("HEAPTRACE_BIN is no path");
    }
    build("heaptrace")?.pop().ok_or_else(|| anyhow!("cargo named no heaptrace binary"))
}

/// Builds the programs of `package`; gives their paths.
pub(crate) fn build(package: &str) -> Result<Vec<PathBuf>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--package", package, "--bins", "--message-format", "json-render-diagnostics"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .context("failed to run cargo")?;
    if !output.status.success() {
        bail!("failed to build {package}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(messages.filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?))).collect())
}

/// What stands between heaptrace's options and a command that it starts. Children of commands are exact by default,
/// which puts probes in the files of every process on the machine that maps them: tests let heaptrace at the processes
/// that they started only, and where children are to be exact those have a C library of their own
/// ([`crate::session::copy_libc`]).
pub const COMMAND: &[&str] = &["--no-exact-children", "--"];

/// [`COMMAND`], unless `options` ask for exact children.
pub fn before_command(options: &[&str]) -> &'static [&'static str] {
    if options.contains(&"--exact-children") { &["--"] } else { COMMAND }
}

/// A command that runs `heaptrace` with `arguments`.
pub fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(arguments);
    Ok(command)
}

/// Runs `heaptrace` with `arguments` to its end, for commands that end by themselves.
pub fn output(arguments: &[&str]) -> Result<Output> {
    command(arguments)?.output().context("failed to run heaptrace")
}

/// Starts `heaptrace record -p PID`, and returns once it is tracing.
///
/// `folder` gets the record file (`heaptrace.data`) and the output.
pub fn attach(pids: &[u32], options: &[&str], folder: &Path) -> Result<Running> {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let mut command = command(&["record", "-o"])?;
    command.arg(record_file(folder)).args(["-p", &pids.join(",")]).args(options);
    let mut running = Running::spawn(command, "heaptrace", folder)?;
    running.wait_for_line("heaptrace: tracing")?;
    Ok(running)
}

/// Waits for a `heaptrace record` to end well.
pub fn finish(recorder: &mut Running) -> Result<()> {
    let status = recorder.wait()?;
    if !status.success() {
        bail!("{}", recorder.describe(&format!("ended with {status}")));
    }
    Ok(())
}

/// The record file that sessions in `folder` write.
pub fn record_file(folder: &Path) -> PathBuf {
    folder.join("heaptrace.data")
}

/// Reads the record file of `folder` through `heaptrace report`.
pub fn report(folder: &Path) -> Result<Report> {
    view(folder, "alloc")
}

/// The same, in another view.
pub fn view(folder: &Path, view: &str) -> Result<Report> {
    let file = record_file(folder);
    let file = file.to_str().context("the temporary folder's name is not UTF-8")?;
    let output = output(&["report", file, "--view", view, "--format", "json"])?;
    if !output.status.success() {
        bail!("heaptrace report ended with {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("the JSON report is not as documented")
}
