//! callgrind's format: what functions allocated, by themselves and with all that they call, by file and line.

mod graph;

#[cfg(test)]
mod tests;

use super::Options;
use super::export::{Content, Export, Past, Untold};
use super::labels::Labels;
use super::remarks::remarks;
use super::stacks::{Amounts, Measure, Stacks};
use crate::model::{Amount, Profile};
use crate::printable::printable;
use graph::{Function, FunctionId, Graph};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "callgrind",
    help: "Call graph with source lines, for callgrind_annotate and KCachegrind.",
    files: &["callgrind.out*", "*.callgrind"],
    content: Content::Stacks,
    is_binary: false,
    past: Past::None,
    tells_losses: true,
    render,
};

/// What callgrind says where it knows no file.
const UNKNOWN: &str = "???";

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let mut stacks = Stacks::new(profile, options);
    stacks.hide_below(options.min_bytes);
    let labels = Labels::new(profile);
    let graph = Graph::new(&labels, &mut stacks, options.memory);
    head(&stacks, out)?;
    let mut writer = Writer { labels, stacks, graph, written: Written::default(), out };
    writer.functions()?;
    writer.totals()?;
    Ok(None)
}

/// A measure's events, with what they are: bytes, and blocks.
const fn events(measure: Measure) -> [(&'static str, &'static str); 2] {
    match measure {
        Measure::Allocated => [("AllocBytes", "bytes allocated"), ("AllocBlocks", "blocks allocated")],
        Measure::Live => [("LiveBytes", "bytes live"), ("LiveBlocks", "blocks live")],
        Measure::Mapped => [("MappedBytes", "bytes mapped"), ("MappedCalls", "calls that map memory")],
        Measure::Touched => [("TouchedBytes", "bytes touched first"), ("PageFaults", "page faults")],
    }
}

fn head(stacks: &Stacks<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "# callgrind format\nversion: 1\ncreator: heaptrace {}",
        printable(&stacks.profile.heaptrace)
    )?;
    if let [process] = stacks.processes()[..] {
        writeln!(out, "pid: {}\ncmd: {}", process.pid, printable(&process.exe))?;
    }
    for line in remarks(stacks) {
        writeln!(out, "desc: {line}")?;
    }
    writeln!(out, "desc: calls are counted by the allocations that were made through them")?;
    writeln!(out, "positions: line")?;
    // Consumers sort by the first one.
    let events: Vec<_> = stacks.in_order().flat_map(|place| events(stacks.measures[place])).collect();
    for (name, what) in &events {
        writeln!(out, "event: {name} : {what}")?;
    }
    let names: Vec<_> = events.iter().map(|(name, _)| *name).collect();
    writeln!(out, "events: {}", names.join(" "))
}

/// Names that were written, and their numbers: the second time a number is enough.
#[derive(Default)]
struct Written<'a> {
    files: HashMap<Cow<'a, str>, usize>,
    objects: HashMap<Cow<'a, str>, usize>,
    functions: Vec<bool>,
}

fn compressed<'a>(written: &mut HashMap<Cow<'a, str>, usize>, name: Cow<'a, str>) -> String {
    let next = written.len() + 1;
    match written.get(&name) {
        Some(number) => format!("({number})"),
        None => {
            let text = format!("({next}) {name}");
            written.insert(name, next);
            text
        }
    }
}

fn sorted<K: Ord + Copy, V>(map: HashMap<K, V>) -> Vec<(K, V)> {
    let mut list: Vec<_> = map.into_iter().collect();
    list.sort_unstable_by_key(|(key, _)| *key);
    list
}

/// Takes what belongs together from the beginning of a list.
fn split<'l, K, V>(list: &mut &'l [(K, V)], belongs: impl Fn(&K) -> bool) -> &'l [(K, V)] {
    let (taken, rest) = list.split_at(list.partition_point(|(key, _)| belongs(key)));
    *list = rest;
    taken
}

struct Writer<'a, 'o> {
    labels: Labels<'a>,
    stacks: Stacks<'a>,
    graph: Graph,
    written: Written<'a>,
    out: &'o mut dyn Write,
}

impl Writer<'_, '_> {
    fn functions(&mut self) -> io::Result<()> {
        self.written.functions.resize(self.graph.functions.len(), false);
        // In the order in which they were found, so that the same recording gives the same file.
        let own = sorted(std::mem::take(&mut self.graph.own));
        let calls = sorted(std::mem::take(&mut self.graph.calls));
        let (mut own, mut calls) = (&own[..], &calls[..]);
        for function in 0..self.graph.functions.len() as FunctionId {
            writeln!(self.out)?;
            self.name(function, ["ob", "fl", "fn"])?;
            for ((_, line), amounts) in split(&mut own, |(of, _)| *of == function) {
                self.costs(*line, amounts)?;
            }
            for (call, amounts) in split(&mut calls, |call| call.from == function) {
                self.name(call.to, ["cob", "cfi", "cfn"])?;
                // Consumers take calls that were never made for none.
                writeln!(self.out, "calls={} 0", amounts[0].count.max(1))?;
                self.costs(call.line, amounts)?;
            }
        }
        Ok(())
    }

    /// Says which function is meant, in lines that begin with these words for its module, its file and itself.
    fn name(&mut self, id: FunctionId, [object_is, file_is, function_is]: [&str; 3]) -> io::Result<()> {
        let profile = self.stacks.profile;
        let (object, file) = match self.graph.functions[id as usize] {
            Function::Process(_) => (UNKNOWN.into(), UNKNOWN.into()),
            Function::Code { label, .. } => {
                let label = self.labels.get(label);
                let module = label.module.and_then(|module| profile.modules.get(module.index()));
                let file = label.source.as_ref().map_or(UNKNOWN.into(), |(file, _)| file.clone());
                (module.map_or(UNKNOWN.into(), |module| printable(&module.path)), file)
            }
        };
        writeln!(self.out, "{object_is}={}", compressed(&mut self.written.objects, object))?;
        writeln!(self.out, "{file_is}={}", compressed(&mut self.written.files, file))?;
        let is_known = std::mem::replace(&mut self.written.functions[id as usize], true);
        let name = if is_known { String::new() } else { format!(" {}", self.function(id)) };
        writeln!(self.out, "{function_is}=({}){name}", id + 1)
    }

    fn function(&self, id: FunctionId) -> String {
        match self.graph.functions[id as usize] {
            Function::Process(process) => {
                let process = &self.stacks.profile.processes[process.index()];
                format!("{}:{}", printable(&process.comm), process.pid)
            }
            Function::Code { label, depth: 0 } => self.labels.get(label).name.clone().into_owned(),
            Function::Code { label, depth } => format!("{}'{}", self.labels.get(label).name, depth + 1),
        }
    }

    fn costs(&mut self, line: u32, amounts: &Amounts) -> io::Result<()> {
        write!(self.out, "{line}")?;
        self.amounts(amounts)
    }

    fn amounts(&mut self, amounts: &Amounts) -> io::Result<()> {
        for Amount { bytes, count } in self.stacks.in_order().map(|place| amounts[place]) {
            write!(self.out, " {bytes} {count}")?;
        }
        writeln!(self.out)
    }

    fn totals(&mut self) -> io::Result<()> {
        let total = self.stacks.total();
        write!(self.out, "\ntotals:")?;
        self.amounts(&total)
    }
}
