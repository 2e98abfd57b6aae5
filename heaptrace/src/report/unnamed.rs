//! Files of which names are missing, and what would name them.

use super::{labels::Labels, select::Selection};
use crate::{
    attribution::Attribution,
    model::{Location, ModuleId, Profile},
    printable::printable,
    units::counted,
};
use std::{cmp::Reverse, collections::BTreeMap};

/// What is missing of what `selection` shows, in words; without `all` only where most is.
pub(super) fn lines(
    profile: &Profile,
    selection: &Selection,
    frames: &Attribution,
    all: bool,
) -> Vec<String> {
    const SHOWN: usize = 3;
    let labels = Labels::attributed(profile, frames);
    let mut seen = vec![false; profile.locations.len()];
    for entry in &selection.entries {
        for frame in labels.shown_frames(entry.stack) {
            let Some(frame) = profile.frames.get(frame.index()) else { continue };
            if let Some(seen) = seen.get_mut(frame.location.index()) {
                *seen = true;
            }
        }
    }
    let is_bare = |index: usize| profile.symbols.get(index).is_none_or(Vec::is_empty);
    let mut places: BTreeMap<ModuleId, u64> = BTreeMap::new();
    let bare = profile.locations.iter().zip(&seen).enumerate();
    for (_, (location, _)) in bare.filter(|(index, (_, seen))| **seen && is_bare(*index)) {
        if let Location::InModule { module, .. } = location
            // Not [vdso] and its like.
            && profile.modules.get(module.index()).is_some_and(|module| module.path.starts_with('/'))
        {
            *places.entry(*module).or_default() += 1;
        }
    }
    let mut files: Vec<(ModuleId, u64)> = places.into_iter().collect();
    if files.is_empty() {
        return Vec::new();
    }
    files.sort_by_key(|(module, places)| (Reverse(*places), *module));
    let places = files.iter().map(|(_, places)| places).sum();
    let mut lines = vec![format!(
        "no names of {} in {}: they are stripped, or their debug files are not here. With a build ID: install the debug package, \
         or run debuginfod-find debuginfo BUILDID, and report again (--debug-dir DIR looks elsewhere, too)",
        counted(places, "place", "places"),
        counted(files.len() as u64, "file", "files")
    )];
    let shown = if all { files.len() } else { SHOWN.min(files.len()) };
    for (module, places) in &files[..shown] {
        let Some(module) = profile.modules.get(module.index()) else { continue };
        let build = module.build_id.as_ref();
        let build = build.map_or_else(|| "no build ID".to_owned(), |id| format!("build ID {id}"));
        let places = counted(*places, "place", "places");
        lines.push(format!("  {} ({build}): {places}", printable(&module.path)));
    }
    if files.len() > shown {
        lines.push(format!(
            "  and {} (--verbose)",
            counted((files.len() - shown) as u64, "more file", "more files")
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::profiles::full, model::BuildId, report::Options};

    #[test]
    fn what_would_name_a_stripped_file_is_said() {
        let mut profile = full();
        profile.modules[1].build_id = Some(BuildId(vec![0xab, 0xcd]));
        let selection = Selection::new(&profile, &Options::default());
        let frames = Attribution::default();
        let said = lines(&profile, &selection, &frames, false);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("no names of 1 place in 1 file: "), "{said:?}");
        assert_eq!(said[1], "  /usr/lib/libfoo.so.1 (build ID abcd): 1 place");
        let other = Selection::new(&profile, &Options { pid: Some(43), ..Options::default() });
        assert!(lines(&profile, &other, &frames, false).is_empty());
        let hidden = Attribution::new(false, Some("obj:libfoo.so*"), false).expect("a pattern");
        assert!(lines(&profile, &selection, &hidden, false).is_empty());
        profile.modules[1].path = "[vdso]".into();
        assert!(lines(&profile, &selection, &frames, false).is_empty());
    }
}
