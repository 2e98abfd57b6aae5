//! The rows of a text report, and their columns.

use super::labels::{Label, LabelId, Labels};
use super::select::{Estimated, Selection, Weight};
use super::tree::{Scale, Tree};
use super::{By, Options, View};
use crate::model::{Amount, Estimate, Mode, ModuleId, Process, ProcessId, Profile, Thread, ThreadId};
use crate::printable::printable;
use crate::units::{base_name, percent, seconds_cell, thousands};
use heaptrace_common::function::Function;
use std::collections::HashMap;
use std::io::{self, Write};

/// Underlining stops here: C++ names can be thousands of characters long.
const MAX_DOTS: usize = 60;

/// What makes a row; what does not matter to a kind of row is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Key<'a> {
    process: Option<ProcessId>,
    module: Option<ModuleId>,
    symbol: Option<&'a str>,
    label: Option<LabelId>,
    function: Option<Function>,
    thread: Option<ThreadId>,
}

struct Row<'a> {
    key: Key<'a>,
    weight: Weight,
    /// Bytes of those stacks that begin with it, where others count, too.
    own_bytes: u64,
    tree: Option<Tree>,
}

/// Rows that are too small to be shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Hidden {
    pub rows: u64,
    pub weight: Weight,
    /// Stacks of which inner frames are left out.
    pub folded: u64,
}

/// Writes the table of `selection`, and call trees below its rows where they are by stack.
pub(super) fn write(
    profile: &Profile,
    selection: &Selection,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<Hidden> {
    let labels = Labels::attributed(profile, &options.frames);
    let mut rows = collect(selection, options, &labels);
    let folded = selection.entries.iter().filter(|entry| labels.folded(entry.stack) > 0).count();
    let mut hidden = Hidden { folded: folded as u64, ..Hidden::default() };
    let least = options.least(selection.total.bytes());
    rows.retain(|row| {
        let keep = row.weight.bytes() >= least;
        if !keep {
            hidden.rows += 1;
            hidden.weight.add(&row.weight);
        }
        keep
    });
    rows.sort_by(|a, b| {
        let by_weight = (b.weight.bytes(), b.weight.count()).cmp(&(a.weight.bytes(), a.weight.count()));
        by_weight
            .then_with(|| a.weight.oldest_ns.cmp(&b.weight.oldest_ns))
            .then_with(|| Names::new(a.key, profile, &labels).cmp(&Names::new(b.key, profile, &labels)))
    });
    // Made twice rather than kept: there may be as many rows as sites.
    let cells = |row: &Row<'_>| cells(row, profile, selection.total.bytes(), options, &labels);

    let titles = titles(profile.mode, options);
    let mut widths: Vec<usize> = titles.iter().map(|(title, _)| title.len()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(cells(row)) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let mut text = String::new();
        for ((cell, width), (_, right)) in cells.zip(&widths).zip(&titles) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            text.push_str("  ");
            text.push_str(&if *right { pad + &cell } else { cell + &pad });
        }
        text.truncate(text.trim_end().len());
        text
    };
    // "#" takes the place of the first blank, so that a script can drop everything but rows.
    let head = line(&mut titles.iter().map(|(title, _)| (*title).to_owned()));
    writeln!(out, "#{}", &head[1..])?;
    let dots = line(&mut widths.iter().map(|width| ".".repeat((*width).min(MAX_DOTS))));
    writeln!(out, "#{}\n#", &dots[1..])?;
    for row in rows {
        writeln!(out, "{}", line(&mut cells(&row).into_iter()))?;
        if let Some(tree) = row.tree {
            let scale = Scale { total: selection.total.bytes(), least };
            tree.draw(&options.frames.shown(row.key.symbol.unwrap_or_default()), &labels, scale, out)?;
        }
    }
    Ok(hidden)
}

/// What rows of one weight are sorted by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Names<'a> {
    function: Option<&'static str>,
    process: Option<(&'a str, u32)>,
    thread: Option<(&'a str, u32)>,
    module: Option<&'a str>,
    symbol: Option<&'a str>,
    label: Option<&'a Label<'a>>,
}

impl<'a> Names<'a> {
    fn new(key: Key<'a>, profile: &'a Profile, labels: &'a Labels<'_>) -> Self {
        let Key { process, module, symbol, label, function, thread } = key;
        let process = process.and_then(|id| profile.processes.get(id.index()));
        let thread = thread.and_then(|id| profile.threads.get(id.index()));
        let module = module.and_then(|id| profile.modules.get(id.index()));
        Self {
            function: function.map(Function::name),
            process: process.map(|process| (process.comm.as_str(), process.pid)),
            thread: thread.map(|thread| (thread.name.as_str(), thread.tid)),
            module: module.map(|module| module.path.as_str()),
            symbol,
            label: label.map(|id| labels.get(id)),
        }
    }
}

fn collect<'a>(selection: &Selection, options: &Options, labels: &'a Labels<'_>) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    let mut index: HashMap<Key<'a>, usize> = HashMap::new();
    let functions = if options.by == By::Function { labels.same_functions() } else { Vec::new() };
    let mut keys: Vec<Key<'a>> = Vec::new();
    for entry in &selection.entries {
        let Some(innermost) = labels.walk_shown(entry.stack).next() else { continue };
        let label = labels.get(innermost);
        let process = Some(entry.process);
        keys.clear();
        match options.by {
            By::Stack => {
                keys.push(Key { process, module: label.module, symbol: Some(&label.name), ..Key::default() });
            }
            By::Site => keys.push(Key {
                process,
                module: label.module,
                label: Some(innermost),
                function: Some(entry.function),
                ..Key::default()
            }),
            By::Function => {
                let of = |label: LabelId| functions.get(label as usize).copied().unwrap_or(label);
                let key = |label: LabelId| Key { label: Some(label), ..Key::default() };
                keys.push(key(of(innermost)));
                let mut callers: Vec<LabelId> = labels.walk_shown(entry.stack).map(of).collect();
                callers.sort_unstable();
                callers.dedup();
                // One that calls itself has its blocks once.
                keys.extend(callers.into_iter().filter(|caller| *caller != of(innermost)).map(key));
            }
            By::Module => keys.push(Key { module: label.module, ..Key::default() }),
            By::Process => keys.push(Key { process, ..Key::default() }),
            By::Thread => keys.push(Key { process, thread: entry.thread, ..Key::default() }),
        }
        for (place, key) in keys.iter().enumerate() {
            let at = *index.entry(*key).or_insert_with(|| {
                rows.push(Row {
                    key: *key,
                    weight: Weight::default(),
                    own_bytes: 0,
                    tree: (options.by == By::Stack).then(Tree::default),
                });
                rows.len() - 1
            });
            let row = &mut rows[at];
            row.weight.add(&entry.weight);
            if place == 0 {
                row.own_bytes = row.own_bytes.saturating_add(entry.weight.bytes());
            }
            if let Some(tree) = &mut row.tree {
                tree.add(entry.stack, entry.weight.bytes());
            }
        }
    }
    rows
}

/// Titles of the columns, and whether their cells are numbers.
fn titles(mode: Mode, options: &Options) -> Vec<(&'static str, bool)> {
    let count = match options.view {
        View::Growth => "Calls",
        View::Faults => "Faults",
        View::Live | View::Leaks | View::Churn | View::Alloc | View::Sizes | View::Rss => "Blocks",
    };
    let mut titles = vec![("Percent", true), ("Bytes", true), (count, true)];
    if is_estimated(mode, options.view) {
        titles.insert(2, ("±", true));
        titles.push(("±", true));
    }
    if options.by == By::Function {
        titles.insert(1, ("Self", true));
    }
    titles.extend(match options.view {
        View::Live | View::Leaks | View::Rss => vec![("Oldest", true)],
        View::Alloc | View::Sizes if mode.has_frees() => vec![("Freed bytes", true), ("Freed", true)],
        View::Churn | View::Alloc | View::Sizes | View::Growth | View::Faults => vec![],
    });
    titles.extend(match options.by {
        By::Stack => vec![("Process", false), ("Module", false), ("Symbol", false)],
        By::Site => vec![("Function", false), ("Process", false), ("Module", false), ("Site", false)],
        By::Function => vec![("Module", false), ("Function", false)],
        By::Module => vec![("Module", false)],
        By::Thread => vec![("TID", true), ("Thread", false), ("Process", false)],
        // Of calls that map memory, and of faults, neither a peak nor failures are known.
        By::Process if !options.view.is_of_blocks() => {
            vec![("RSS", true), ("Process", false), ("Program", false)]
        }
        By::Process => {
            vec![
                (if mode.has_blocks() && !mode.has_frees() { "Peak at most" } else { "Peak live" }, true),
                ("RSS", true),
                ("Failed", true),
                ("Process", false),
                ("Program", false),
            ]
        }
    });
    titles
}

fn cells(
    row: &Row<'_>,
    profile: &Profile,
    total: u64,
    options: &Options,
    labels: &Labels<'_>,
) -> Vec<String> {
    let Weight { quantity, freed, oldest_ns } = &row.weight;
    let Amount { bytes, count } = quantity.amount();
    let mut cells = vec![format!("{:.2}%", percent(bytes, total)), thousands(bytes), thousands(count)];
    if is_estimated(profile.mode, options.view) {
        let error = |of: fn(Estimated) -> Estimate| {
            quantity.estimated().map_or_else(String::new, |estimated| error(of(*estimated)))
        };
        cells.insert(2, error(|of| of.bytes));
        cells.push(error(|of| of.count));
    }
    if options.by == By::Function {
        cells.insert(1, format!("{:.2}%", percent(row.own_bytes, total)));
    }
    match options.view {
        View::Live | View::Leaks | View::Rss => {
            cells.push(oldest_ns.map_or_else(|| "-".to_owned(), seconds_cell))
        }
        View::Alloc | View::Sizes if profile.mode.has_frees() => {
            cells.extend([thousands(freed.bytes), thousands(freed.count)]);
        }
        View::Churn | View::Alloc | View::Sizes | View::Growth | View::Faults => {}
    }
    let process = row.key.process.and_then(|id| profile.processes.get(id.index()));
    let module = row.key.module.and_then(|id| profile.modules.get(id.index()));
    let process_cell = process.map_or_else(String::new, process_name);
    let module_cell =
        module.map_or_else(|| "[none]".to_owned(), |module| printable(base_name(&module.path)).into_owned());
    match options.by {
        By::Stack => {
            let symbol = options.frames.shown(row.key.symbol.unwrap_or_default()).into_owned();
            cells.extend([process_cell, module_cell, symbol]);
        }
        By::Function => {
            let module = row.key.label.and_then(|label| labels.get(label).module);
            let module = module.and_then(|id| profile.modules.get(id.index()));
            let module = module.map_or("[none]".into(), |module| printable(base_name(&module.path)));
            let function = row.key.label.map_or_else(String::new, |label| labels.name(label).into_owned());
            cells.extend([module.into_owned(), function]);
        }
        By::Site => {
            let site = row.key.label.map_or_else(String::new, |label| labels.describe(label));
            let function = row.key.function.map_or("", Function::name).to_owned();
            cells.extend([function, process_cell, module_cell, site]);
        }
        // In full: this is what the user would look the file up by.
        By::Module => cells.push(module.map_or(module_cell, |module| printable(&module.path).into_owned())),
        By::Thread => {
            let (tid, name) = thread_cells(profile, row.key.thread);
            cells.extend([tid, name, process_cell]);
        }
        By::Process => {
            let rss = process.map_or(0, |process| process.rss_bytes);
            let rss = if rss == 0 { "-".to_owned() } else { thousands(rss) };
            let of_blocks = |of: fn(&Process) -> u64| {
                let is_shown = options.view.is_of_blocks();
                is_shown.then(|| process.map_or_else(String::new, |process| thousands(of(process))))
            };
            cells.extend(of_blocks(|process| process.peak_live_bytes));
            cells.push(rss);
            cells.extend(of_blocks(|process| process.failed_count));
            cells.push(process_cell);
            cells.push(process.map_or_else(String::new, |process| printable(&process.exe).into_owned()));
        }
    }
    cells
}

/// Whether what a view shows is estimated from samples.
pub(super) fn is_estimated(mode: Mode, view: View) -> bool {
    mode.sample_bytes() != 0 && view.is_of_blocks()
}

/// How far the farther end of the interval is from a value; the upper one, where it is at most that.
pub(super) fn error(estimate: Estimate) -> String {
    let (low, high) = estimate.interval95();
    let below = if estimate.is_bound() { 0.0 } else { estimate.value - low as f64 };
    let off = (high as f64 - estimate.value).max(below);
    if estimate.value > 0.0 { format!("{:.0}%", off / estimate.value * 100.0) } else { "-".to_owned() }
}

/// A place of a process, as sentences have it: `f f.c:7 in comm:pid`.
pub(super) fn place(
    profile: &Profile,
    labels: &Labels<'_>,
    process: ProcessId,
    label: Option<LabelId>,
) -> String {
    let process = profile.processes.get(process.index()).map_or_else(String::new, process_name);
    format!("{} in {process}", label.map_or_else(String::new, |label| labels.describe(label)))
}

/// A thread's ID and name.
pub(super) fn thread_cells(profile: &Profile, thread: Option<ThreadId>) -> (String, String) {
    match thread.and_then(|id| profile.threads.get(id.index())) {
        Some(Thread { tid, name }) => (tid.to_string(), printable(name).into_owned()),
        // What found no room among the sites.
        None => ("-".to_owned(), "[not known]".to_owned()),
    }
}

/// `comm:pid`, as printed everywhere.
pub(super) fn process_name(process: &Process) -> String {
    format!("{}:{}", printable(&process.comm), process.pid)
}
