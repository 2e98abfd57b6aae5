//! What frames are called: each location's names, interned, so that trees compare numbers.

use crate::attribution::{Attribution, Class, Forwarders, fold};
use crate::model::{FrameId, Location, LocationId, ModuleId, Profile, Stack, StackId};
use crate::printable::printable;
use crate::units::{base_name, counted};
use heaptrace_common::stack::StackEnd;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Index into the labels.
pub(super) type LabelId = u32;

/// One line of a call tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label<'a> {
    /// The symbol, or what is known in its place (`libfoo.so+0x1234`).
    pub name: Cow<'a, str>,
    /// The source file, and the line in it.
    pub source: Option<(Cow<'a, str>, Option<u32>)>,
    pub inlined: bool,
    pub module: Option<ModuleId>,
}

impl Label<'_> {
    /// Name, source line, and whether it is inlined.
    pub fn describe(&self) -> String {
        self.describe_as(self.name.as_ref())
    }

    fn describe_as(&self, name: &str) -> String {
        let mut text = name.to_owned();
        if let Some((file, line)) = &self.source {
            text.push(' ');
            text.push_str(base_name(file));
            if let Some(line) = line {
                text += &format!(":{line}");
            }
        }
        if self.inlined {
            text.push_str(" (inlined)");
        }
        text
    }

    fn pseudo(name: String) -> Self {
        Self { name: name.into(), source: None, inlined: false, module: None }
    }
}

/// Labels of a profile's locations and stack ends.
pub(super) struct Labels<'a> {
    profile: &'a Profile,
    /// Equal ones may be here twice, but only the first is referred to.
    labels: Vec<Label<'a>>,
    /// Each location's labels, innermost first, as a range of `expanded`.
    locations: Vec<Range<usize>>,
    expanded: Vec<LabelId>,
    ends: HashMap<StackEnd, LabelId>,
    no_stack: LabelId,
    no_site: LabelId,
    /// `None` where all is shown as it is.
    attribution: Option<&'a Attribution>,
    /// Of each label, once it was asked for.
    classes: Vec<OnceCell<Option<Class>>>,
    /// Of each label, once it was asked for: whether it is of one.
    forwarders: OnceCell<Vec<bool>>,
}

impl<'a> Labels<'a> {
    /// With frames left out and names shortened as `attribution` has it.
    pub fn attributed(profile: &'a Profile, attribution: &'a Attribution) -> Self {
        let mut labels = Self::new(profile);
        if attribution.hides() {
            labels.classes.resize_with(labels.labels.len(), OnceCell::new);
        }
        labels.attribution = Some(attribution);
        labels
    }

    /// Where a program's own functions are shown even if they pass allocations on: that is told by all stacks of a recording,
    /// and is not to differ between two.
    pub fn with_forwarders(self) -> Self {
        Self { forwarders: OnceCell::from(Vec::new()), ..self }
    }

    /// All frames, with their whole names.
    pub fn new(profile: &'a Profile) -> Self {
        let symbols_of = |index| profile.symbols.get(index).map_or(&[][..], Vec::as_slice);
        let count: usize = (0..profile.locations.len()).map(|index| symbols_of(index).len().max(1)).sum();
        let mut labels = Vec::with_capacity(count + StackEnd::ALL.len() + 2);
        let mut locations = Vec::with_capacity(profile.locations.len());
        for (index, location) in profile.locations.iter().enumerate() {
            let from = labels.len();
            let module = match *location {
                Location::InModule { module, .. } => Some(module),
                _ => None,
            };
            for symbol in symbols_of(index) {
                let source = symbol.file.as_deref().map(|file| (printable(file), symbol.line));
                let name = printable(&symbol.name);
                labels.push(Label { name, source, inlined: symbol.inlined, module });
            }
            if labels.len() == from {
                let name = place(profile, location).into();
                labels.push(Label { name, source: None, inlined: false, module });
            }
            locations.push(from..labels.len());
        }
        let expanded = first_of(labels.len(), |one, other| labels[one as usize].cmp(&labels[other as usize]));
        let mut pseudo = |name: String| {
            labels.push(Label::pseudo(name));
            (labels.len() - 1) as LabelId
        };
        let ends = StackEnd::ALL
            .into_iter()
            .filter(|end| *end != StackEnd::Complete)
            .map(|end| (end, pseudo(format!("[truncated: {}]", end.name()))))
            .collect();
        let no_stack = pseudo("[no stack]".into());
        let no_site = pseudo("[site not kept]".into());
        let (attribution, classes) = (None, Vec::new());
        Self {
            profile,
            labels,
            locations,
            expanded,
            ends,
            no_stack,
            no_site,
            attribution,
            classes,
            forwarders: OnceCell::new(),
        }
    }

    /// How many numbers of labels there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn get(&self, id: LabelId) -> &Label<'a> {
        &self.labels[id as usize]
    }

    /// A label's name, as long as it is to be shown.
    pub fn name(&self, id: LabelId) -> Cow<'_, str> {
        let name = self.get(id).name.as_ref();
        self.attribution.map_or(Cow::Borrowed(name), |attribution| attribution.shown(name))
    }

    /// Name, source line, and whether it is inlined.
    pub fn describe(&self, id: LabelId) -> String {
        self.get(id).describe_as(&self.name(id))
    }

    /// Name, source line and, where that is not known, the module, which then tells most.
    pub fn in_line(&self, id: LabelId) -> String {
        let label = self.get(id);
        let module = label.module.and_then(|module| self.profile.modules.get(module.index()));
        match module {
            // A place without a symbol is named by its module already.
            Some(module) if label.source.is_none() && !label.name.contains("+0x") => {
                format!("{} ({})", self.describe(id), printable(base_name(&module.path)))
            }
            _ => self.describe(id),
        }
    }

    /// What of a stack, which stands for so many that read the same, is not shown: in brackets, if anything is.
    pub fn left_out(&self, stack: StackId, stacks: u64) -> String {
        match (self.folded(Some(stack)) as u64, stacks) {
            (0, 0 | 1) => String::new(),
            (folded, 0 | 1) => format!(" ({} left out)", counted(folded, "inner frame", "inner frames")),
            (_, stacks) => format!(" (inner frames of {} left out)", counted(stacks, "stack", "stacks")),
        }
    }

    /// Whether stacks are shown from the user's first frame on.
    pub fn hides(&self) -> bool {
        self.attribution.is_some_and(Attribution::hides)
    }

    /// How many labels of a stack are left out: those before the user's first.
    pub fn folded(&self, stack: Option<StackId>) -> usize {
        if !self.hides() {
            return 0;
        }
        // Not its end, which is no frame.
        let frames = self.frames(stack).iter().flat_map(|frame| self.of_frame(*frame));
        fold(frames.map(|label| self.class_of(*label)))
    }

    /// Whose a frame is; `None` for the user's.
    pub fn class_of(&self, id: LabelId) -> Option<Class> {
        match self.class_by_name(id) {
            class @ (Some(Class::Forwarder) | None) if self.hides() => {
                let passes_on = self.forwarders.get_or_init(|| self.find_forwarders());
                let passes_on = passes_on.get(id as usize).copied().unwrap_or_default();
                if passes_on { Some(Class::Allocator) } else { class.filter(|of| *of != Class::Forwarder) }
            }
            class => class,
        }
    }

    /// The same, as far as names tell.
    fn class_by_name(&self, id: LabelId) -> Option<Class> {
        let (attribution, class) = self.attribution.zip(self.classes.get(id as usize))?;
        *class.get_or_init(|| {
            let label = self.get(id);
            let module = label.module.and_then(|module| self.profile.modules.get(module.index()));
            let source = label.source.as_ref().map(|(file, _)| file.as_ref());
            attribution.class_of(&label.name, module.map_or("", |module| base_name(&module.path)), source)
        })
    }

    /// Of each label, whether it is of a function that passes allocations on, by how all stacks come to it. One may be behind
    /// another.
    fn find_forwarders(&self) -> Vec<bool> {
        const BEHIND_EACH_OTHER: usize = 3;
        let name = |id: LabelId| (self.get(id).name.as_ref(), self.get(id).module);
        let function = first_of(self.len(), |one, other| name(one).cmp(&name(other)));
        let function = |id: LabelId| function[id as usize];
        let mut found: HashSet<LabelId> = HashSet::new();
        for _ in 0..BEHIND_EACH_OTHER {
            let mut seen = Forwarders::default();
            for Stack { frames, .. } in &self.profile.stacks {
                let labels = frames.iter().flat_map(|frame| self.of_frame(*frame)).copied();
                let mut labels = labels.skip_while(|label| {
                    matches!(self.class_by_name(*label), Some(Class::Asked | Class::Allocator))
                        || found.contains(&function(*label))
                });
                let Some(label) = labels.next() else { continue };
                let class = self.class_by_name(label);
                if matches!(class, Some(Class::Forwarder) | None) {
                    let caller = labels.map(function).next();
                    seen.take(function(label), self.get(label).module, class.is_some(), caller);
                }
            }
            let more = seen.found();
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        (0..self.len() as LabelId).map(|id| found.contains(&function(id))).collect()
    }

    /// Where what is shown of a stack begins.
    pub fn first_shown(&self, stack: Option<StackId>) -> Place {
        let mut at = Place::default();
        for _ in 0..self.folded(stack) {
            self.next(stack, &mut at);
        }
        at
    }

    /// A stack's frames as far as they are shown.
    pub fn shown_frames(&self, stack: Option<StackId>) -> &[FrameId] {
        let Place { frame, label } = self.first_shown(stack);
        let frames = self.frames(stack).get(frame as usize..).unwrap_or_default();
        match frames {
            // All of its functions are left out.
            [first, rest @ ..] if label as usize >= self.of_frame(*first).len() => rest,
            _ => frames,
        }
    }

    /// A stack's labels as far as they are shown, innermost first, never none.
    pub fn walk_shown(&self, stack: Option<StackId>) -> impl Iterator<Item = LabelId> {
        self.walk_from(stack, self.first_shown(stack))
    }

    /// As valgrind's tools write frames: `0x401234: main (x.c:10)`.
    pub fn at_address(&self, id: LabelId, address: u64) -> String {
        let label = self.get(id);
        let place = match &label.source {
            Some((file, Some(line))) => format!("{}:{line}", base_name(file)),
            Some((file, None)) => base_name(file).to_owned(),
            None => {
                let module = label.module.and_then(|module| self.profile.modules.get(module.index()));
                format!("in {}", module.map_or("???".into(), |module| printable(&module.path)))
            }
        };
        format!("{address:#x}: {} ({place})", label.name)
    }

    /// Of each label the first that names the same function, by name, file and module: libraries have functions of one name.
    /// Modules of one path are one, whatever versions of it there were.
    pub fn same_functions(&self) -> Vec<LabelId> {
        let function = |id: LabelId| {
            let Label { name, source, module, .. } = self.get(id);
            let module = module.and_then(|module| self.profile.modules.get(module.index()));
            (name, source.as_ref().map(|(file, _)| file), module.map(|module| &module.path))
        };
        first_of(self.len(), |one, other| function(one).cmp(&function(other)))
    }

    /// A stack's labels, innermost first, never none: a truncated stack ends in a label that says so, and
    /// blocks without a stack, or without even a site, have labels of their own.
    pub fn of_stack(&self, stack: Option<StackId>, into: &mut Vec<LabelId>) {
        into.clear();
        into.extend(self.walk(stack));
    }

    /// The same, one after the other.
    pub fn walk(&self, stack: Option<StackId>) -> impl Iterator<Item = LabelId> {
        self.walk_from(stack, Place::default())
    }

    /// The same, from a place on.
    pub fn walk_from(&self, stack: Option<StackId>, mut at: Place) -> impl Iterator<Item = LabelId> {
        std::iter::from_fn(move || self.next(stack, &mut at))
    }

    /// The same, outermost first.
    pub fn walk_inwards(&self, stack: Option<StackId>) -> impl Iterator<Item = LabelId> {
        let frames = self.frames(stack).iter().rev();
        let inside = frames.flat_map(|frame| self.of_frame(*frame).iter().rev().copied());
        self.end(stack).into_iter().chain(inside)
    }

    /// The label of a stack at a place, which is moved on to the next.
    pub fn next(&self, stack: Option<StackId>, at: &mut Place) -> Option<LabelId> {
        let frames = self.frames(stack);
        while let Some(frame) = frames.get(at.frame as usize) {
            if let Some(label) = self.of_frame(*frame).get(at.label as usize) {
                at.label += 1;
                return Some(*label);
            }
            *at = Place { frame: at.frame + 1, label: 0 };
        }
        if at.label > 0 {
            return None;
        }
        at.label = 1;
        self.end(stack)
    }

    /// A stack's frames, innermost first.
    pub fn frames(&self, stack: Option<StackId>) -> &[FrameId] {
        stack.and_then(|id| self.profile.stacks.get(id.index())).map_or(&[], |stack| &stack.frames)
    }

    /// A frame's labels, innermost first.
    pub fn of_frame(&self, frame: FrameId) -> &[LabelId] {
        let location = self.profile.frames.get(frame.index()).map(|frame| frame.location);
        location.map_or(&[], |location| self.of_location(location))
    }

    /// A location's labels, innermost first.
    pub fn of_location(&self, location: LocationId) -> &[LabelId] {
        let range = self.locations.get(location.index());
        range.map_or(&[], |range| &self.expanded[range.clone()])
    }

    /// What a stack ends in, beyond its frames.
    pub fn end(&self, stack: Option<StackId>) -> Option<LabelId> {
        let Some(id) = stack else { return Some(self.no_site) };
        match self.profile.stacks.get(id.index()) {
            Some(Stack { frames, end }) if !frames.is_empty() => self.ends.get(end).copied(),
            Some(Stack { end, .. }) if *end != StackEnd::NotWalked => {
                Some(self.ends.get(end).copied().unwrap_or(self.no_stack))
            }
            _ => Some(self.no_stack),
        }
    }
}

/// A place in a stack's labels: a frame, and a label of its location; behind all frames, whether the end was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    frame: u32,
    label: u32,
}

/// Of each of so many labels the number of the first that is the same. By sorting: a map would hold all of them once more.
fn first_of(labels: usize, compare: impl Fn(LabelId, LabelId) -> Ordering) -> Vec<LabelId> {
    // Locations are numbered by u32, and one has at most some hundred labels that mostly coincide.
    let mut order: Vec<LabelId> = (0..labels as LabelId).collect();
    order.sort_unstable_by(|one, other| compare(*one, *other).then(one.cmp(other)));
    let mut first = vec![0; labels];
    for same in order.chunk_by(|one, other| compare(*one, *other).is_eq()) {
        same.iter().for_each(|id| first[*id as usize] = same[0]);
    }
    first
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::profiles::empty,
        model::{Frame, Module, Symbol},
    };

    /// Stacks of a program, innermost first.
    fn program(stacks: &[&[&str]]) -> Profile {
        let mut profile = empty();
        profile.modules = vec![Module { path: "/srv/app".into(), build_id: None }];
        for stack in stacks {
            let mut frames = Vec::new();
            for name in *stack {
                let id = FrameId(profile.frames.len() as u32);
                let (module, offset) = (ModuleId(0), id.0.into());
                profile.locations.push(Location::InModule { module, offset });
                // Each on a line of its own.
                let symbol = Symbol {
                    name: (*name).into(),
                    file: Some("x.c".into()),
                    line: Some(id.0),
                    inlined: false,
                };
                profile.symbols.push(vec![symbol]);
                profile.frames.push(Frame { address: offset, location: LocationId(id.0) });
                frames.push(id);
            }
            profile.stacks.push(Stack { frames, end: StackEnd::Complete });
        }
        profile
    }

    fn sites(profile: &Profile) -> Vec<String> {
        let attribution = Attribution::default();
        let labels = Labels::attributed(profile, &attribution);
        let stacks = (0..profile.stacks.len()).map(|index| StackId(index as u32));
        stacks.filter_map(|id| Some(labels.name(labels.walk_shown(Some(id)).next()?).into_owned())).collect()
    }

    #[test]
    fn a_function_is_no_forwarder_for_its_name_alone() {
        let own = program(&[
            &["load_realloc", "main"],
            &["load_realloc", "main"],
            &["load_realloc", "reload", "main"],
        ]);
        assert_eq!(sites(&own), ["load_realloc"; 3]);
        let of_all =
            program(&[&["app_malloc", "a"], &["app_malloc", "b"], &["app_malloc", "c"], &["zmalloc", "d"]]);
        assert_eq!(sites(&of_all), ["a", "b", "c", "d"]);
        // One behind another.
        let chain = program(&[
            &["in_malloc", "out_malloc", "a"],
            &["in_malloc", "out_malloc", "b"],
            &["in_malloc", "out_malloc", "c"],
            &["in_malloc", "x_calloc", "d"],
            &["in_malloc", "e"],
        ]);
        assert_eq!(sites(&chain), ["a", "b", "c", "x_calloc", "e"]);
    }

    #[test]
    fn what_nearly_all_allocations_come_by_is_a_forwarder_whatever_its_name() {
        let callers: Vec<String> = (0..20).map(|number| format!("caller_{number}")).collect();
        let stacks: Vec<[&str; 2]> = callers.iter().map(|caller| ["take_room", caller]).collect();
        let profile = program(&stacks.iter().map(|stack| &stack[..]).collect::<Vec<_>>());
        assert_eq!(sites(&profile), callers);
        let raw = Attribution::raw();
        let labels = Labels::attributed(&profile, &raw);
        assert_eq!(labels.folded(Some(StackId(0))), 0);
    }
}
