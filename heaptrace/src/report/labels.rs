//! What frames are called: each location's names, interned, so that trees compare numbers.

use super::number::{base_name, printable};
use crate::model::{Location, ModuleId, Profile, Stack, StackId};
use heaptrace_common::stack::StackEnd;
use std::collections::HashMap;
use std::ops::Range;

/// Index into the labels.
pub(super) type LabelId = u32;

/// One line of a call tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label {
    /// The symbol, or what is known in its place (`libfoo.so+0x1234`).
    pub name: String,
    /// `file:line`, without directories.
    pub source: Option<String>,
    pub inlined: bool,
    pub module: Option<ModuleId>,
}

impl Label {
    /// Name, source line, and whether it is inlined.
    pub fn describe(&self) -> String {
        let mut text = self.name.clone();
        if let Some(source) = &self.source {
            text.push(' ');
            text.push_str(source);
        }
        if self.inlined {
            text.push_str(" (inlined)");
        }
        text
    }

    fn pseudo(name: String) -> Self {
        Self { name, source: None, inlined: false, module: None }
    }
}

/// Labels of a profile's locations and stack ends.
pub(super) struct Labels<'a> {
    profile: &'a Profile,
    labels: Vec<Label>,
    /// Each location's labels, innermost first, as a range of `expanded`.
    locations: Vec<Range<usize>>,
    expanded: Vec<LabelId>,
    ends: HashMap<StackEnd, LabelId>,
    no_stack: LabelId,
    no_site: LabelId,
}

impl<'a> Labels<'a> {
    pub fn new(profile: &'a Profile) -> Self {
        let mut interner = Interner::default();
        let mut expanded = Vec::with_capacity(profile.locations.len());
        let mut locations = Vec::with_capacity(profile.locations.len());
        for (index, location) in profile.locations.iter().enumerate() {
            let from = expanded.len();
            let module = match *location {
                Location::InModule { module, .. } => Some(module),
                _ => None,
            };
            let symbols = profile.symbols.get(index).map_or(&[][..], Vec::as_slice);
            for symbol in symbols {
                let source = symbol.file.as_deref().map(|file| match symbol.line {
                    Some(line) => format!("{}:{line}", printable(base_name(file))),
                    None => printable(base_name(file)).into_owned(),
                });
                let name = printable(&symbol.name).into_owned();
                expanded.push(interner.intern(Label { name, source, inlined: symbol.inlined, module }));
            }
            if symbols.is_empty() {
                let name = place(profile, location);
                expanded.push(interner.intern(Label { name, source: None, inlined: false, module }));
            }
            locations.push(from..expanded.len());
        }
        let ends = StackEnd::ALL
            .into_iter()
            .filter(|end| *end != StackEnd::Complete)
            .map(|end| (end, interner.intern(Label::pseudo(format!("[truncated: {}]", end.name())))))
            .collect();
        let no_stack = interner.intern(Label::pseudo("[no stack]".into()));
        let no_site = interner.intern(Label::pseudo("[site not kept]".into()));
        Self { profile, labels: interner.labels, locations, expanded, ends, no_stack, no_site }
    }

    pub fn get(&self, id: LabelId) -> &Label {
        &self.labels[id as usize]
    }

    /// A stack's labels, innermost first, never none: a truncated stack ends in a label that says so, and
    /// blocks without a stack, or without even a site, have labels of their own.
    pub fn of_stack(&self, stack: Option<StackId>, into: &mut Vec<LabelId>) {
        into.clear();
        if let Some(Stack { frames, end }) = stack.and_then(|id| self.profile.stacks.get(id.index())) {
            for frame in frames {
                if let Some(frame) = self.profile.frames.get(frame.index())
                    && let Some(range) = self.locations.get(frame.location.index())
                {
                    into.extend_from_slice(&self.expanded[range.clone()]);
                }
            }
            if !into.is_empty() || *end != StackEnd::NotWalked {
                into.extend(self.ends.get(end));
            }
        }
        if into.is_empty() {
            into.push(if stack.is_some() { self.no_stack } else { self.no_site });
        }
    }
}

/// A place without a symbol: `libfoo.so+0x1234`, as precise as a symbolizer elsewhere needs it.
fn place(profile: &Profile, location: &Location) -> String {
    match *location {
        Location::InModule { module, offset } => match profile.modules.get(module.index()) {
            Some(module) => format!("{}+{offset:#x}", printable(base_name(&module.path))),
            None => format!("[unknown module]+{offset:#x}"),
        },
        Location::Anonymous { address, .. } => format!("[generated code] {address:#x}"),
        Location::Unmapped { address, .. } => format!("[unmapped] {address:#x}"),
    }
}

#[derive(Default)]
struct Interner {
    labels: Vec<Label>,
    ids: HashMap<Label, LabelId>,
}

impl Interner {
    fn intern(&mut self, label: Label) -> LabelId {
        if let Some(&id) = self.ids.get(&label) {
            return id;
        }
        // Locations are numbered by u32, and one has at most some hundred labels that mostly coincide.
        let id = self.labels.len() as LabelId;
        self.labels.push(label.clone());
        self.ids.insert(label, id);
        id
    }
}
