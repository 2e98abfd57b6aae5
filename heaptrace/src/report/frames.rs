//! A stack as the JSON formats write it: an entry for each frame, and for each function inlined into it.

use crate::model::{Location, Profile, StackId, Symbol};
use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};

#[derive(Serialize)]
struct FrameEntry<'a> {
    addr: u64,
    module: Option<&'a str>,
    build_id: Option<String>,
    offset: Option<u64>,
    symbol: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    inlined: bool,
}

/// A stack's frames, innermost first, inlined ones as entries of their own.
pub(super) struct Frames<'a> {
    pub profile: &'a Profile,
    pub stack: StackId,
}

impl Serialize for Frames<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(None)?;
        let frames = self.profile.stacks.get(self.stack.index()).map_or(&[][..], |stack| &stack.frames);
        for frame in frames.iter().filter_map(|frame| self.profile.frames.get(frame.index())) {
            let index = frame.location.index();
            let (module, offset) = match self.profile.locations.get(index) {
                Some(Location::InModule { module, offset }) => {
                    (self.profile.modules.get(module.index()), Some(*offset))
                }
                _ => (None, None),
            };
            let entry = |symbol: Option<&Symbol>| FrameEntry {
                addr: frame.address,
                module: module.map(|module| module.path.as_str()),
                build_id: module.and_then(|module| Some(module.build_id.as_ref()?.to_string())),
                offset,
                symbol: None,
                file: None,
                line: symbol.and_then(|symbol| symbol.line),
                inlined: symbol.is_some_and(|symbol| symbol.inlined),
            };
            let symbols = self.profile.symbols.get(index).map_or(&[][..], Vec::as_slice);
            for symbol in symbols {
                let (name, file) = (Some(symbol.name.as_str()), symbol.file.as_deref());
                list.serialize_element(&FrameEntry { symbol: name, file, ..entry(Some(symbol)) })?;
            }
            if symbols.is_empty() {
                list.serialize_element(&entry(None))?;
            }
        }
        list.end()
    }
}
