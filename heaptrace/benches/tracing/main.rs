//! What tracing costs: `cargo bench --bench tracing [-- cost live depth watch attach scale ladder native large]`, as root. Prints tables in
//! Markdown; results are kept in `docs/performance.md`.
//!
//! `HEAPTRACE_BENCH_MEMLEAK` is the command of libbpf-tools' memleak, to measure beside. `HEAPTRACE_BENCH_ROUNDS`
//! is the number of rounds that medians are taken of, `HEAPTRACE_BENCH_LOADS` the programs of `ladder`, by parts of their names. `HEAPTRACE_BENCH_OTHER` is the path of another heaptrace, for
//! `against`, which measures the two in turns.

#![expect(clippy::disallowed_methods, reason = "what is read was made here, or is root's")]

mod against;
mod attach;
mod cost;
mod depth;
mod figures;
mod ladder;
mod live;
mod memleak;
mod native;
mod recorder;
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
        wanted = vec!["scale", "attach", "cost", "live", "depth", "watch", "ladder", "native"];
        wanted.extend(against::other().map(|_| "against"));
    }
    let folder = tempfile::tempdir()?;
    for what in wanted {
        match what {
            "against" => match against::other() {
                Some(other) => against::run(&other, folder.path())?,
                None => bail!("against what? HEAPTRACE_BENCH_OTHER is to be the path of another heaptrace"),
            },
            "cost" => cost::run(folder.path())?,
            "live" => live::run(folder.path())?,
            "depth" => depth::run(folder.path())?,
            "attach" => attach::run(folder.path())?,
            "watch" => watch::run(folder.path())?,
            // Takes five minutes a round, python3, redis-server, nginx and postgres, and heaptrack and valgrind where they are.
            "ladder" => ladder::run(folder.path())?,
            // Takes libclang, for what the program is built with.
            "native" => native::run(folder.path())?,
            "scale" => scale::run(1_000_000, folder.path())?,
            // Takes a minute, and half a gigabyte in the kernel.
            "large" => scale::run(10_000_000, folder.path())?,
            other => {
                bail!(
                    "no benchmark {other}; there are cost, live, against, depth, watch, attach, scale, ladder, native and large"
                )
            }
        }
    }
    Ok(())
}
