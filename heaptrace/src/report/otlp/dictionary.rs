//! What samples refer to by number: stacks, of locations, of lines, of functions, of strings. It is a field of the whole message,
//! written in pieces: where there are several of one field with a message, readers take them for one.

use super::parts::write;
use crate::model::{FrameId, ModuleId, Profile, StackId, Thread, ThreadId};
use crate::printable::printable;
use crate::report::addresses::Mappings;
use crate::report::labels::{LabelId, Labels};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value::Value},
    profiles::v1development::{
        Function, KeyValueAndUnit, Line, Link, Location, Mapping, ProfilesDictionary, Stack,
    },
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};

/// In `ProfilesData`.
const DICTIONARY: u32 = 2;

/// The numbers of stacks, and of the attributes that say whose samples are.
pub struct Numbers {
    stacks: Vec<i32>,
    /// Of each thread its ID and its name.
    threads: HashMap<ThreadId, [i32; 2]>,
    /// That of what was allocated beyond the sites that were kept.
    no_site: i32,
}

impl Numbers {
    /// 0, which is no stack, where it was not asked for.
    pub fn of(&self, stack: Option<StackId>) -> i32 {
        stack.map_or(self.no_site, |id| self.stacks.get(id.index()).copied().unwrap_or_default())
    }

    /// None where threads are not told apart.
    pub fn of_thread(&self, thread: Option<ThreadId>) -> Vec<i32> {
        thread.and_then(|id| self.threads.get(&id)).map_or_else(Vec::new, |numbers| numbers.to_vec())
    }
}

/// Each thing is written right before it is referred to, and 0 is none.
pub struct Dictionary<'a, 'o> {
    profile: &'a Profile,
    labels: &'o Labels<'a>,
    out: &'o mut dyn Write,
    strings: HashMap<Cow<'a, str>, i32>,
    /// By name and file.
    functions: HashMap<(i32, i32), i32>,
    /// By frame, then by what stacks end in.
    frames: Vec<i32>,
    ends: HashMap<LabelId, i32>,
    locations: i32,
    mappings: Mappings,
    numbers: Numbers,
    stacks: i32,
    attributes: i32,
}

impl<'a, 'o> Dictionary<'a, 'o> {
    pub fn new(profile: &'a Profile, labels: &'o Labels<'a>, out: &'o mut dyn Write) -> io::Result<Self> {
        let mut dictionary = Self {
            profile,
            labels,
            out,
            strings: HashMap::from([("".into(), 0)]),
            functions: HashMap::new(),
            frames: vec![0; profile.frames.len()],
            ends: HashMap::new(),
            locations: 0,
            mappings: Mappings::default(),
            numbers: Numbers { stacks: vec![0; profile.stacks.len()], threads: HashMap::new(), no_site: 0 },
            stacks: 0,
            attributes: 0,
        };
        dictionary.put(ProfilesDictionary {
            mapping_table: vec![Mapping::default()],
            location_table: vec![Location::default()],
            function_table: vec![Function::default()],
            link_table: vec![Link::default()],
            string_table: vec![String::new()],
            attribute_table: vec![KeyValueAndUnit::default()],
            stack_table: vec![Stack::default()],
        })?;
        Ok(dictionary)
    }

    fn put(&mut self, part: ProfilesDictionary) -> io::Result<()> {
        write(DICTIONARY, &part, self.out)
    }

    /// A stack that samples will have.
    pub fn stack(&mut self, stack: Option<StackId>) -> io::Result<()> {
        if self.numbers.of(stack) != 0 {
            return Ok(());
        }
        let labels = self.labels;
        let mut location_indices = Vec::with_capacity(labels.frames(stack).len() + 1);
        for frame in labels.frames(stack) {
            location_indices.push(self.frame(*frame)?);
        }
        if let Some(end) = labels.end(stack) {
            location_indices.push(self.end_of_stack(end)?);
        }
        self.put(ProfilesDictionary { stack_table: vec![Stack { location_indices }], ..Default::default() })?;
        self.stacks += 1;
        let number = match stack {
            None => Some(&mut self.numbers.no_site),
            Some(id) => self.numbers.stacks.get_mut(id.index()),
        };
        if let Some(number) = number {
            *number = self.stacks;
        }
        Ok(())
    }

    /// A thread that samples will have, by OpenTelemetry's semantic conventions.
    pub fn thread(&mut self, thread: Option<ThreadId>) -> io::Result<()> {
        let known = thread.filter(|id| !self.numbers.threads.contains_key(id));
        let profile = self.profile;
        let of = known.and_then(|id| Some((id, profile.threads.get(id.index())?)));
        let Some((id, Thread { tid, name })) = of else { return Ok(()) };
        let tid = self.attribute("thread.id", Value::IntValue((*tid).into()))?;
        let name = self.attribute("thread.name", Value::StringValue(printable(name).into_owned()))?;
        self.numbers.threads.insert(id, [tid, name]);
        Ok(())
    }

    fn attribute(&mut self, key: &'static str, value: Value) -> io::Result<i32> {
        let key_strindex = self.string(key)?;
        let value = Some(AnyValue { value: Some(value) });
        let attribute = KeyValueAndUnit { key_strindex, value, unit_strindex: 0 };
        self.put(ProfilesDictionary { attribute_table: vec![attribute], ..Default::default() })?;
        self.attributes += 1;
        Ok(self.attributes)
    }

    fn frame(&mut self, id: FrameId) -> io::Result<i32> {
        let known = self.frames.get(id.index()).copied().unwrap_or_default();
        let Some(frame) = self.profile.frames.get(id.index()).filter(|_| known == 0) else {
            return Ok(known);
        };
        let labels = self.labels;
        let mut lines = Vec::new();
        for label in labels.of_frame(id) {
            let label = labels.get(*label);
            let (file, line) = match &label.source {
                Some((file, line)) => (file.clone(), line.unwrap_or_default()),
                None => (Cow::Borrowed(""), 0),
            };
            lines.push(self.line(label.name.clone(), file, line)?);
        }
        let location = self.profile.locations.get(frame.location.index());
        let (mapping, address) = self.mappings.place(frame.address, location, !lines.is_empty());
        let number = self.location(Location {
            mapping_index: i32::try_from(mapping).unwrap_or_default(),
            address,
            lines,
            ..Location::default()
        })?;
        self.frames[id.index()] = number;
        Ok(number)
    }

    fn end_of_stack(&mut self, label: LabelId) -> io::Result<i32> {
        if let Some(known) = self.ends.get(&label) {
            return Ok(*known);
        }
        let line = self.line(self.labels.get(label).name.clone(), Cow::Borrowed(""), 0)?;
        let number = self.location(Location { lines: vec![line], ..Location::default() })?;
        self.ends.insert(label, number);
        Ok(number)
    }

    fn location(&mut self, location: Location) -> io::Result<i32> {
        self.put(ProfilesDictionary { location_table: vec![location], ..Default::default() })?;
        self.locations += 1;
        Ok(self.locations)
    }

    fn line(&mut self, name: Cow<'a, str>, file: Cow<'a, str>, line: u32) -> io::Result<Line> {
        let (name, file) = (self.string(name)?, self.string(file)?);
        let next = self.functions.len() as i32 + 1;
        let function_index = match self.functions.get(&(name, file)) {
            Some(known) => *known,
            None => {
                let function =
                    Function { name_strindex: name, filename_strindex: file, ..Function::default() };
                self.put(ProfilesDictionary { function_table: vec![function], ..Default::default() })?;
                self.functions.insert((name, file), next);
                next
            }
        };
        Ok(Line { function_index, line: line.into(), column: 0 })
    }

    /// The number of our own text, or of one that is printable.
    pub fn string(&mut self, text: impl Into<Cow<'a, str>>) -> io::Result<i32> {
        let text = text.into();
        if let Some(known) = self.strings.get(&text) {
            return Ok(*known);
        }
        let number = self.strings.len() as i32;
        self.put(ProfilesDictionary { string_table: vec![text.clone().into_owned()], ..Default::default() })?;
        self.strings.insert(text, number);
        Ok(number)
    }

    /// The mappings, of which only now is known how far they reach.
    pub fn end(mut self) -> io::Result<Numbers> {
        let profile = self.profile;
        let mut known = self.mappings.known();
        known.sort_by_key(|(_, mapping)| mapping.id);
        let mut attributes: HashMap<ModuleId, i32> = HashMap::new();
        for (id, mapping) in known {
            let module = profile.modules.get(id.index());
            let path = module.map_or(Cow::Borrowed(""), |module| printable(&module.path));
            let filename_strindex = self.string(path)?;
            let build_id = module.and_then(|module| module.build_id.as_ref());
            let attribute = match (attributes.get(&id), build_id) {
                (Some(known), _) => Some(*known),
                (None, None) => None,
                (None, Some(build_id)) => {
                    let value = Value::StringValue(build_id.to_string());
                    let number = self.attribute("process.executable.build_id.gnu", value)?;
                    attributes.insert(id, number);
                    Some(number)
                }
            };
            let mapping = Mapping {
                memory_start: mapping.memory_start,
                memory_limit: mapping.memory_limit,
                file_offset: mapping.file_offset,
                filename_strindex,
                attribute_indices: attribute.into_iter().collect(),
            };
            self.put(ProfilesDictionary { mapping_table: vec![mapping], ..Default::default() })?;
        }
        Ok(self.numbers)
    }
}
