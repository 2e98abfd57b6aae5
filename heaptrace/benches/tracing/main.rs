//! What tracing costs: `cargo bench --bench tracing [-- cost depth watch attach scale]`, as root. Prints tables in Markdown;
//! results are kept in `docs/performance.md`.
//!
//! `HEAPTRACE_BENCH_MEMLEAK` is the command of libbpf-tools' memleak, to measure beside. `HEAPTRACE_BENCH_ROUNDS`
//! is the number of rounds that medians are taken of.

mod attach;
mod cost;
mod depth;
mod figures;
mod memleak;
mod scale;
mod stack_id;
mod statistics;
mod target;
mod watch;

use anyhow::{Result, bail};
use std::env;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // Without the flag, cargo only wants to know that it starts (`cargo test --all-targets`).
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let mut wanted: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with('-')).collect();
    if wanted.is_empty() {
        wanted = vec!["scale", "attach", "cost", "depth", "watch"];
    }
    let folder = tempfile::tempdir()?;
    for what in wanted {
        match what {
            "cost" => cost::run(folder.path())?,
            "depth" => depth::run(folder.path())?,
            "attach" => attach::run(folder.path())?,
            "watch" => watch::run(folder.path())?,
            "scale" => scale::run(folder.path())?,
            other => bail!("no benchmark {other}; there are cost, depth, watch, attach and scale"),
        }
    }
    Ok(())
}
