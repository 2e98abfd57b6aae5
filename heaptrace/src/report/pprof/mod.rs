//! pprof's format: `profile.proto` in gzip, with the sample types of Go's heap profiles.

mod message;
mod names;
mod proto;

#[cfg(test)]
mod tests;

use super::Options;
use super::addresses::Mappings;
use super::export::{Content, Export, Past, Untold};
use super::labels::{LabelId, Labels};
use super::remarks::remarks;
use super::stacks::Stacks;
use crate::model::{Frame, FrameId, ModuleId, Profile, StackId};
use crate::units::signed;
use message::Messages;
use names::Names;
use proto::{Line, Location, Sample, ValueType};
use std::collections::HashSet;
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "pprof",
    help: "Profile for `go tool pprof` and all that reads its format.",
    files: &["*.pb.gz", "*.pprof"],
    content: Content::Stacks,
    is_binary: true,
    past: Past::None,
    tells_losses: true,
    render,
};

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let mut stacks = Stacks::by_thread(profile, options);
    stacks.hide_below(options.min_bytes);
    let mut writer = Writer {
        profile,
        labels: Labels::new(profile),
        names: Names::default(),
        mappings: Mappings::default(),
        seen: HashSet::new(),
        messages: Messages::new(out),
    };
    writer.head(&stacks)?;
    writer.samples(&stacks)?;
    writer.end()?;
    Ok(None)
}

/// Writes what a sample refers to right before it: nothing but who was written is kept.
struct Writer<'a, 'o> {
    profile: &'a Profile,
    labels: Labels<'a>,
    names: Names<'a>,
    mappings: Mappings,
    /// Locations, by their ID.
    seen: HashSet<u64>,
    messages: Messages<'o>,
}

impl<'a> Writer<'a, '_> {
    fn head(&mut self, stacks: &Stacks<'a>) -> io::Result<()> {
        let mut types = Vec::new();
        for measure in stacks.measures {
            for (name, unit) in measure.sample_types().into_iter().zip(["count", "bytes"]) {
                types.push(self.value_type(name, unit)?);
            }
        }
        let period_type = Some(self.value_type("space", "bytes")?);
        let [_, main] = stacks.measures[stacks.main].sample_types();
        let default_sample_type = self.names.string(main, &mut self.messages)?;
        let mut comment = Vec::new();
        for line in remarks(stacks) {
            comment.push(self.names.string(line, &mut self.messages)?);
        }
        let (started_ns, duration_ns) = self.profile.time();
        self.messages.put(&proto::Profile {
            sample_type: types,
            time_nanos: started_ns,
            duration_nanos: signed(duration_ns),
            period_type,
            // As Go has it where every block is recorded.
            period: signed(self.profile.sample_bytes().max(1)),
            comment,
            default_sample_type,
            ..proto::Profile::default()
        })
    }

    fn value_type(&mut self, name: &'static str, unit: &'static str) -> io::Result<ValueType> {
        let r#type = self.names.string(name, &mut self.messages)?;
        Ok(ValueType { r#type, unit: self.names.string(unit, &mut self.messages)? })
    }

    fn samples(&mut self, stacks: &Stacks<'a>) -> io::Result<()> {
        let pid = self.names.string("pid", &mut self.messages)?;
        let comm = self.names.string("comm", &mut self.messages)?;
        let threads = match self.profile.by_thread {
            true => Some(["thread", "tid"].map(|key| self.names.string(key, &mut self.messages))),
            false => None,
        };
        let threads = match threads {
            Some([thread, tid]) => Some((thread?, tid?)),
            None => None,
        };
        for row in &stacks.rows {
            let process = stacks.process(row);
            let name = self.names.text(&process.comm, &mut self.messages)?;
            let amounts = row.amounts.iter().take(stacks.measures.len());
            let mut label = vec![
                proto::Label { key: pid, num: process.pid.into(), str: 0 },
                proto::Label { key: comm, str: name, num: 0 },
            ];
            let of = row.thread.and_then(|id| self.profile.threads.get(id.index()));
            if let (Some((thread, tid)), Some(of)) = (threads, of) {
                let name = self.names.text(&of.name, &mut self.messages)?;
                label.push(proto::Label { key: thread, str: name, num: 0 });
                label.push(proto::Label { key: tid, num: of.tid.into(), str: 0 });
            }
            let sample = Sample {
                location_id: self.stack(row.stack)?,
                value: amounts.flat_map(|amount| [signed(amount.count), signed(amount.bytes)]).collect(),
                label,
            };
            self.messages.put(&proto::Profile { sample: vec![sample], ..proto::Profile::default() })?;
        }
        Ok(())
    }

    /// The locations of a stack, innermost first; a truncated one ends in one that says so.
    fn stack(&mut self, stack: Option<StackId>) -> io::Result<Vec<u64>> {
        let profile = self.profile;
        let frames = stack.and_then(|id| profile.stacks.get(id.index())).map_or(&[][..], |of| &of.frames);
        let mut locations = Vec::with_capacity(frames.len() + 1);
        for id in frames {
            if let Some(frame) = profile.frames.get(id.index()) {
                locations.push(self.frame(*id, *frame)?);
            }
        }
        if let Some(end) = self.labels.end(stack) {
            locations.push(self.end_of_stack(end)?);
        }
        Ok(locations)
    }

    fn frame(&mut self, id: FrameId, frame: Frame) -> io::Result<u64> {
        let FrameId(number) = id;
        let id = u64::from(number) + 1;
        if !self.seen.insert(id) {
            return Ok(id);
        }
        let index = frame.location.index();
        let symbols = self.profile.symbols.get(index).map_or(&[][..], Vec::as_slice);
        let mut line = Vec::with_capacity(symbols.len());
        for symbol in symbols {
            let file = symbol.file.as_deref().unwrap_or_default();
            let function_id = self.names.function(&symbol.name, file, &mut self.messages)?;
            line.push(Line { function_id, line: symbol.line.unwrap_or_default().into() });
        }
        let location = self.profile.locations.get(index);
        let (mapping_id, address) = self.mappings.place(frame.address, location, !line.is_empty());
        if mapping_id == 0 && line.is_empty() {
            // Nothing but us can say what it is.
            for label in self.labels.of_location(frame.location) {
                let name = self.labels.get(*label).name.clone();
                let function_id = self.names.function_named(name, &mut self.messages)?;
                line.push(Line { function_id, line: 0 });
            }
        }
        self.location(Location { id, mapping_id, address, line })?;
        Ok(id)
    }

    fn end_of_stack(&mut self, label: LabelId) -> io::Result<u64> {
        // Behind those of frames.
        let id = self.profile.frames.len() as u64 + 1 + u64::from(label);
        if self.seen.insert(id) {
            let name = self.labels.get(label).name.clone();
            let function_id = self.names.function_named(name, &mut self.messages)?;
            let line = vec![Line { function_id, line: 0 }];
            self.location(Location { id, line, ..Location::default() })?;
        }
        Ok(id)
    }

    fn location(&mut self, location: Location) -> io::Result<()> {
        self.messages.put(&proto::Profile { location: vec![location], ..proto::Profile::default() })
    }

    /// The mappings, of which only now is known how far they reach. Programs come before libraries: pprof takes the first
    /// for what was profiled.
    fn end(mut self) -> io::Result<()> {
        let profile = self.profile;
        let programs: HashSet<&str> = profile.processes.iter().map(|process| process.exe.as_str()).collect();
        let mut mappings = self.mappings.known();
        let path =
            |module: ModuleId| profile.modules.get(module.index()).map_or("", |module| module.path.as_str());
        mappings.sort_by_key(|(module, mapping)| (!programs.contains(path(*module)), mapping.id));
        for (module, mapping) in mappings {
            let filename = self.names.text(path(module), &mut self.messages)?;
            let build_id = profile.modules.get(module.index()).and_then(|module| module.build_id.as_ref());
            let build_id = build_id.map_or_else(String::new, ToString::to_string);
            let build_id = self.names.string(build_id, &mut self.messages)?;
            let mapping = proto::Mapping {
                id: mapping.id,
                memory_start: mapping.memory_start,
                memory_limit: mapping.memory_limit,
                file_offset: mapping.file_offset,
                filename,
                build_id,
                // Where names were found pprof is not to look for them: its own would take the place of all.
                has_functions: mapping.is_named,
                has_filenames: mapping.is_named,
                has_line_numbers: mapping.is_named,
                has_inline_frames: mapping.is_named,
            };
            self.messages.put(&proto::Profile { mapping: vec![mapping], ..proto::Profile::default() })?;
        }
        self.messages.end()
    }
}
