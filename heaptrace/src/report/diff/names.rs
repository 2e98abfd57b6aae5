//! What frames are called in every build of a program, interned: without addresses, versions and what compilers add.

use crate::{
    attribution::Attribution,
    model::{Location, Profile},
    printable::printable,
    units::base_name,
};
use std::{borrow::Cow, collections::HashMap};

/// A name; the same in all recordings that are compared.
pub(super) type NameId = u32;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Frame {
    name: String,
    /// The file that it lies in, without version.
    module: String,
    /// Of a place without a symbol: in which build it is that place.
    build: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Names {
    attribution: Attribution,
    frames: Vec<Frame>,
    ids: HashMap<Frame, NameId>,
}

impl Names {
    /// Which are shown as `attribution` has it.
    pub fn new(attribution: Attribution) -> Self {
        Self { attribution, ..Self::default() }
    }

    /// What is called so itself: the end of a stack, a process.
    pub(super) fn of(&mut self, name: &str) -> NameId {
        self.intern(Frame { name: printable(name).into_owned(), module: String::new(), build: None })
    }

    /// The functions at a location, innermost first, never none.
    pub(super) fn of_location(&mut self, profile: &Profile, index: usize) -> Vec<NameId> {
        let module = match profile.locations.get(index) {
            Some(Location::InModule { module, .. }) => profile.modules.get(module.index()),
            _ => None,
        };
        let file = module.map_or_else(String::new, |module| {
            printable(without_version(base_name(&module.path))).into_owned()
        });
        let symbols = profile.symbols.get(index).map_or(&[][..], Vec::as_slice);
        if !symbols.is_empty() {
            let named = |name: &str| Frame {
                name: printable(without_suffix(name)).into_owned(),
                module: file.clone(),
                build: None,
            };
            let frames: Vec<Frame> = symbols.iter().map(|symbol| named(&symbol.name)).collect();
            return frames.into_iter().map(|frame| self.intern(frame)).collect();
        }
        let (name, build) = match profile.locations.get(index) {
            Some(Location::InModule { offset, .. }) => {
                let build = module.and_then(|module| module.build_id.as_ref()).map(ToString::to_string);
                // Without a build ID nobody knows whether two files are one.
                match build {
                    Some(build) => (format!("{file}+{offset:#x}"), Some(build)),
                    None => (format!("{file}+?"), None),
                }
            }
            Some(Location::Anonymous { .. }) => ("[generated code]".to_owned(), None),
            Some(Location::Unmapped { .. }) | None => ("[unmapped]".to_owned(), None),
        };
        vec![self.intern(Frame { name, module: file, build })]
    }

    fn intern(&mut self, frame: Frame) -> NameId {
        if let Some(id) = self.ids.get(&frame) {
            return *id;
        }
        let id = self.frames.len() as NameId;
        self.frames.push(frame.clone());
        self.ids.insert(frame, id);
        id
    }

    /// Places without symbols in files of which there are several builds say nothing of another build: each name's, or of
    /// those what all builds have.
    pub(super) fn across_builds(&mut self) -> Vec<NameId> {
        let mut builds: HashMap<&str, Option<&str>> = HashMap::new();
        for frame in &self.frames {
            let Some(build) = frame.build.as_deref() else { continue };
            let one = builds.entry(&frame.module).or_insert(Some(build));
            if *one != Some(build) {
                *one = None;
            }
        }
        let several = |frame: &Frame| builds.get(frame.module.as_str()) == Some(&None);
        let anywhere: Vec<Option<Frame>> = self
            .frames
            .iter()
            .map(|frame| {
                let is_place = frame.build.is_some() && several(frame);
                is_place.then(|| Frame {
                    name: format!("{}+?", frame.module),
                    module: frame.module.clone(),
                    build: None,
                })
            })
            .collect();
        (0..).zip(anywhere).map(|(id, frame)| frame.map_or(id, |frame| self.intern(frame))).collect()
    }

    /// The function.
    pub(super) fn name(&self, id: NameId) -> &str {
        self.frames.get(id as usize).map_or("", |frame| &frame.name)
    }

    /// The function, as long as it is to be shown.
    pub(super) fn shown(&self, id: NameId) -> Cow<'_, str> {
        self.attribution.shown(self.name(id))
    }

    /// The file that it lies in; empty for what lies in none.
    pub(super) fn module(&self, id: NameId) -> &str {
        self.frames.get(id as usize).map_or("", |frame| &frame.module)
    }
}

/// `libfoo.so.1.2.3` as `libfoo.so`.
fn without_version(file: &str) -> &str {
    match file.find(".so.") {
        Some(at) if file[at + 4..].chars().all(|c| c.is_ascii_digit() || c == '.') => &file[..at + 3],
        _ => file,
    }
}

/// Without what compilers add to names of functions: Rust's hash, copies of a function, parts of one.
fn without_suffix(name: &str) -> &str {
    let mut name = name;
    if let Some((before, hash)) = name.rsplit_once("::h")
        && hash.len() == 16
        && hash.chars().all(|c| c.is_ascii_hexdigit())
    {
        name = before;
    }
    // As demanglers have it.
    if let Some((before, _)) = name.split_once(" [clone ") {
        return before;
    }
    const ADDED: [&str; 4] = [".constprop.", ".isra.", ".part.", ".llvm."];
    let is_number =
        |at: usize, added: &str| name[at + added.len()..].starts_with(|c: char| c.is_ascii_digit());
    let numbered = ADDED.iter().filter_map(|added| name.find(added).filter(|at| is_number(*at, added)));
    let cold = name.find(".cold").filter(|at| matches!(name.as_bytes().get(at + 5), None | Some(b'.')));
    let first = numbered.chain(cold).min().filter(|at| *at > 0);
    first.map_or(name, |at| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::profiles::full, model::BuildId};

    #[test]
    fn names_lose_what_builds_add() {
        assert_eq!(without_version("libssl.so.3"), "libssl.so");
        assert_eq!(without_version("libstdc++.so.6.0.30"), "libstdc++.so");
        assert_eq!(without_version("app.so.old"), "app.so.old");
        assert_eq!(without_suffix("alloc::vec::push::h0123456789abcdef"), "alloc::vec::push");
        assert_eq!(without_suffix("std::hash"), "std::hash");
        assert_eq!(without_suffix("parse.isra.0.constprop.1"), "parse");
        assert_eq!(without_suffix("parse.cold"), "parse");
        assert_eq!(without_suffix("parse.part.0.cold"), "parse");
        assert_eq!(without_suffix("main.coldStart"), "main.coldStart");
        assert_eq!(without_suffix("f(int) [clone .constprop.0]"), "f(int)");
        assert_eq!(without_suffix(".constprop.x"), ".constprop.x");
    }

    #[test]
    fn a_place_is_one_in_its_own_build_only() {
        const BARE: usize = 3;
        let mut profile = full();
        let mut names = Names::default();
        let mut of_build = |names: &mut Names, build: Option<u8>| {
            profile.modules[1].build_id = build.map(|byte| BuildId(vec![byte]));
            names.of_location(&profile, BARE)[0]
        };
        let before = of_build(&mut names, Some(1));
        assert_eq!(names.name(before), "libfoo.so+0x1234");
        assert_eq!(names.across_builds()[before as usize], before);
        let after = of_build(&mut names, Some(2));
        let across = names.across_builds();
        assert_ne!(before, after);
        assert_eq!(across[before as usize], across[after as usize]);
        assert_eq!(across[after as usize], of_build(&mut names, None), "whose build nobody knows");
        assert!(names.name(across[after as usize]).ends_with("+?"));
    }
}
