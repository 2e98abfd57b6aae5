//! How large a report becomes that writes out each site's stack. A recording holds a stack, a frame and a name once, and
//! a report holds them wherever they are referred to: the work and the output may be many times the recording.

use super::formats::Format;
use super::select::{chosen, sites};
use super::{By, Options, View};
use crate::model::{Location, Profile};

/// What is written of a frame beside names.
const FRAME: u64 = 32;

/// Bytes of the frames and names that a report of `profile` goes through.
pub fn expansion(format: Format, profile: &Profile, options: &Options) -> u64 {
    if format == Format::Text
        && (!matches!(options.by, By::Stack | By::Function)
            || matches!(options.view, View::Sizes | View::Rss))
    {
        return 0;
    }
    let sum = |bytes: &mut dyn Iterator<Item = u64>| bytes.fold(0, u64::saturating_add);
    let locations: Vec<u64> = profile
        .locations
        .iter()
        .enumerate()
        .map(|(index, location)| {
            let module = match location {
                Location::InModule { module, .. } => profile.modules.get(module.index()),
                _ => None,
            };
            let module = module.map_or(0, |module| {
                module.path.len() + module.build_id.as_ref().map_or(0, |id| 2 * id.0.len())
            });
            let symbols = profile.symbols.get(index).map_or(&[][..], Vec::as_slice);
            let each = FRAME + module as u64;
            let names = sum(&mut symbols.iter().map(|symbol| {
                each + (symbol.name.len() + symbol.file.as_ref().map_or(0, String::len)) as u64
            }));
            names.max(each)
        })
        .collect();
    let of_frame = |frame: &crate::model::FrameId| {
        let frame = profile.frames.get(frame.index());
        frame.and_then(|frame| locations.get(frame.location.index())).copied().unwrap_or_default()
    };
    let stacks: Vec<u64> =
        profile.stacks.iter().map(|stack| sum(&mut stack.frames.iter().map(of_frame))).collect();
    sum(&mut sites(profile, options.view)
        .filter(|site| profile.processes.get(site.process.index()).is_some_and(|p| chosen(p, options)))
        .filter_map(|site| stacks.get(site.stack.index()).copied()))
}
