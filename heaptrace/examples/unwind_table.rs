//! Makes the unwind tables of files and says what they cost: `cargo run --release --example unwind_table FILE...`.
//! `docs/unwinding.md` has its figures.

use heaptrace::process::object::{Object, Opened};
use heaptrace::unwind::{FileTable, build, build_vdso};
use std::path::Path;
use std::time::{Duration, Instant};

fn main() -> anyhow::Result<()> {
    println!("| file | FDEs | raw rows | call rows | rules | KiB rows+pages | build ms |");
    println!("|---|---|---|---|---|---|---|");
    let (table, time) = fastest(|| Ok(build_vdso()?))?;
    print("[vdso]", &table, time);
    for path in std::env::args_os().skip(1) {
        let object = Object::read(Opened::at(Path::new(&path))?)?;
        let (table, time) = fastest(|| Ok(build(&object, None)?))?;
        print(&object.file_name().to_string_lossy(), &table, time);
        eprintln!("{:?}", table.stats());
    }
    Ok(())
}

/// The minimum of five runs.
fn fastest(make: impl Fn() -> anyhow::Result<FileTable>) -> anyhow::Result<(FileTable, Duration)> {
    let run = || {
        let start = Instant::now();
        Ok((make()?, start.elapsed()))
    };
    let first: anyhow::Result<_> = run();
    (0..4).try_fold(first?, |best, _| {
        let next = run()?;
        Ok(if next.1 < best.1 { next } else { best })
    })
}

fn print(name: &str, table: &FileTable, time: Duration) {
    let stats = table.stats();
    println!(
        "| {name} | {} | {} | {} | {} | {}+{} | {:.1} |",
        stats.frames.fdes,
        stats.raw_rows,
        stats.call_rows,
        table.rules().len(),
        (table.rows().len() * 4).div_ceil(1024),
        (table.pages().len() * 4).div_ceil(1024),
        time.as_secs_f64() * 1e3
    );
}
