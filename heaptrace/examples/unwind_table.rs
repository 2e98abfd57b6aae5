//! Makes the unwind tables of files and says what they cost: `cargo run --release --example unwind_table FILE...`.
//! `docs/unwinding.md` has its figures.

use heaptrace::process::object::{Object, Opened};
use heaptrace::unwind::{FileTable, RowKind, build, build_vdso};
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

fn main() -> anyhow::Result<()> {
    println!(
        "| file | FDEs | raw rows | call rows | rules | KiB rows+pages | KiB exact rows+pages | build ms |\n\
         |---|---|---|---|---|---|---|---|"
    );
    let mut all = Sum::default();
    all.add("[vdso]", &mut |kind| Ok(build_vdso(kind)?))?;
    for path in std::env::args_os().skip(1) {
        let object = Opened::at(Path::new(&path)).and_then(Object::read);
        let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let made = match &object {
            Ok(object) => all.add(&name, &mut |kind| Ok(build(object, kind, None, |_| BTreeSet::new())?)),
            Err(error) => Err(anyhow::anyhow!("{error}")),
        };
        if let Err(error) = made {
            eprintln!("{name}: {error:#}");
        }
    }
    let Sum { files, rows, pages, exact_rows, rules, time, over_page_limit } = all;
    let kib = |words: usize| (words * 4).div_ceil(1024);
    println!(
        "\n{files} files: {rows} call rows ({} KiB), {pages} pages ({} KiB), {} rules, {exact_rows} exact rows \
         ({} KiB), {:.1} s; {over_page_limit} exact rows past a page's limit",
        kib(rows),
        kib(pages),
        rules.len(),
        kib(exact_rows),
        time.as_secs_f64()
    );
    Ok(())
}

/// Of all files.
#[derive(Default)]
struct Sum {
    files: usize,
    rows: usize,
    pages: usize,
    exact_rows: usize,
    rules: HashSet<u64>,
    time: Duration,
    over_page_limit: u32,
}

impl Sum {
    fn add(
        &mut self,
        name: &str,
        make: &mut dyn FnMut(RowKind) -> anyhow::Result<FileTable>,
    ) -> anyhow::Result<()> {
        let (table, time) = fastest(&mut || make(RowKind::Calls))?;
        let exact = make(RowKind::Exact)?;
        let stats = table.stats();
        let kib = |words: usize| (words * 4).div_ceil(1024);
        println!(
            "| {name} | {} | {} | {} | {} | {}+{} | {}+{} | {:.1} |",
            stats.frames.fdes,
            stats.raw_rows,
            stats.kept_rows,
            table.rules().len(),
            kib(table.rows().len()),
            kib(table.pages().len()),
            kib(exact.rows().len()),
            kib(exact.pages().len()),
            time.as_secs_f64() * 1e3
        );
        self.files += 1;
        self.rows += table.rows().len();
        self.pages += table.pages().len();
        self.exact_rows += exact.rows().len();
        self.rules.extend(table.rules().iter().map(|rule| rule.0));
        self.time += time;
        self.over_page_limit += exact.stats().rows_over_page_limit;
        Ok(())
    }
}

/// The minimum of five runs.
fn fastest(make: &mut dyn FnMut() -> anyhow::Result<FileTable>) -> anyhow::Result<(FileTable, Duration)> {
    let mut run = || {
        let start = Instant::now();
        Ok((make()?, start.elapsed()))
    };
    let first: anyhow::Result<_> = run();
    (0..4).try_fold(first?, |best, _| {
        let next = run()?;
        Ok(if next.1 < best.1 { next } else { best })
    })
}
