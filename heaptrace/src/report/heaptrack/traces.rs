//! Stacks as heaptrack has them: a tree of calls, each of which is written right before it is referred to.

use crate::model::{FrameId, Location, ProcessId};
use crate::printable::printable;
use crate::report::labels::{Label, LabelId, Labels};
use crate::report::stacks::{Row, Stacks};
use crate::report::table::process_name;
use std::collections::HashMap;
use std::io::{self, Write};

/// What a node of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Process(ProcessId),
    /// What a stack ends in.
    End(LabelId),
    Frame(FrameId),
}

/// What was written, by the numbers that are referred to: they begin with 1, and 0 is none.
pub struct Traces<'l, 'a> {
    labels: &'l Labels<'a>,
    strings: HashMap<&'l str, u32>,
    /// Of paths of modules, which are no labels.
    modules: HashMap<usize, u32>,
    next_string: u32,
    frames: Vec<u32>,
    ends: HashMap<LabelId, u32>,
    pointers: u32,
    nodes: u64,
    /// From the outermost call to the last one that was written, with their nodes. Rows come in the order of their calls,
    /// so that no other is needed.
    path: Vec<(Call, u64)>,
}

impl<'l, 'a> Traces<'l, 'a> {
    pub fn new(labels: &'l Labels<'a>) -> Self {
        Self {
            labels,
            strings: HashMap::new(),
            modules: HashMap::new(),
            next_string: 0,
            frames: Vec::new(),
            ends: HashMap::new(),
            pointers: 0,
            nodes: 0,
            path: Vec::new(),
        }
    }

    /// The number of a row's stack.
    pub fn of(&mut self, row: &Row, stacks: &Stacks<'a>, out: &mut impl Write) -> io::Result<u64> {
        let labels = self.labels;
        let frames = labels.frames(row.stack).iter().rev().map(|frame| Call::Frame(*frame));
        let calls = [Call::Process(row.process)]
            .into_iter()
            .chain(labels.end(row.stack).map(Call::End))
            .chain(frames);
        let mut parent = 0;
        for (depth, call) in calls.enumerate() {
            match self.path.get(depth) {
                Some((known, node)) if *known == call => parent = *node,
                _ => {
                    self.path.truncate(depth);
                    let pointer = self.pointer(call, stacks, out)?;
                    writeln!(out, "t {pointer:x} {parent:x}")?;
                    self.nodes += 1;
                    parent = self.nodes;
                    self.path.push((call, parent));
                }
            }
        }
        Ok(parent)
    }

    fn pointer(&mut self, call: Call, stacks: &Stacks<'a>, out: &mut impl Write) -> io::Result<u32> {
        let labels = self.labels;
        let known = match call {
            // Rows of a process come one after the other.
            Call::Process(_) => None,
            Call::End(label) => self.ends.get(&label).copied(),
            Call::Frame(frame) => self.frames.get(frame.index()).copied().filter(|known| *known > 0),
        };
        if let Some(known) = known {
            return Ok(known);
        }
        match call {
            Call::Process(process) => {
                let name = process_name(&stacks.profile.processes[process.index()]);
                let name = self.new_string(&name, out)?;
                writeln!(out, "i 0 0 {name:x} 0 0")?;
            }
            Call::End(label) => {
                let name = self.string(&labels.get(label).name, out)?;
                writeln!(out, "i 0 0 {name:x} 0 0")?;
            }
            Call::Frame(frame) => self.frame(frame, stacks, out)?,
        }
        self.pointers += 1;
        match call {
            Call::Process(_) => {}
            Call::End(label) => {
                self.ends.insert(label, self.pointers);
            }
            Call::Frame(frame) => {
                self.frames.resize(self.frames.len().max(frame.index() + 1), 0);
                self.frames[frame.index()] = self.pointers;
            }
        }
        Ok(self.pointers)
    }

    /// Writes a frame: its innermost function, and those that it is inlined into.
    fn frame(&mut self, id: FrameId, stacks: &Stacks<'a>, out: &mut impl Write) -> io::Result<()> {
        let (labels, profile) = (self.labels, stacks.profile);
        let frame = profile.frames.get(id.index());
        let module = match frame.and_then(|frame| profile.locations.get(frame.location.index())) {
            Some(Location::InModule { module, .. }) => Some(module.index()),
            _ => None,
        };
        let path = module.and_then(|module| Some((module, profile.modules.get(module)?)));
        let module = match path {
            None => 0,
            Some((index, module)) => match self.modules.get(&index) {
                Some(known) => *known,
                None => {
                    let string = self.new_string(&printable(&module.path), out)?;
                    self.modules.insert(index, string);
                    string
                }
            },
        };
        // A location has at most some hundred functions.
        let mut functions = Vec::new();
        for label in labels.of_frame(id) {
            let Label { name, source, .. } = labels.get(*label);
            let name = self.string(name, out)?;
            let (file, line) = match source {
                Some((file, line)) => (self.string(file, out)?, line.unwrap_or(0)),
                None => (0, 0),
            };
            functions.push((name, file, line));
        }
        write!(out, "i {:x} {module:x}", frame.map_or(0, |frame| frame.address.saturating_sub(1)))?;
        for (name, file, line) in functions {
            write!(out, " {name:x} {file:x} {line:x}")?;
        }
        writeln!(out)
    }

    fn string(&mut self, text: &'l str, out: &mut impl Write) -> io::Result<u32> {
        if let Some(known) = self.strings.get(text) {
            return Ok(*known);
        }
        let number = self.new_string(text, out)?;
        self.strings.insert(text, number);
        Ok(number)
    }

    fn new_string(&mut self, text: &str, out: &mut impl Write) -> io::Result<u32> {
        writeln!(out, "s {text}")?;
        self.next_string += 1;
        Ok(self.next_string)
    }
}
