//! Memory that Python maps for its objects itself: malloc, and so the views of blocks, know nothing of them.

use super::{Options, labels::Labels, select::chosen, table::process_name};
use crate::{
    model::{ProcessId, Profile, Site, Totals},
    units::{base_name, counted, human},
};
use heaptrace_common::function::Function;
use std::collections::BTreeMap;

/// Bytes of an arena: since Python 3.10, and before (Objects/obmalloc.c).
const ARENAS: [u64; 2] = [1 << 20, 256 << 10];

/// Of less nobody wants to know.
const LEAST: u64 = 1 << 20;

/// A sentence for each process whose arenas are a tenth or more of what it mapped.
pub(super) fn lines(profile: &Profile, options: &Options) -> Vec<String> {
    const SHOWN: usize = 3;
    let is_of_their_size = |site: &&Site| {
        let Totals { alloc_bytes, alloc_count, .. } = site.totals;
        site.function == Function::Mmap
            && ARENAS.iter().any(|size| alloc_count.checked_mul(*size) == Some(alloc_bytes))
    };
    let candidates: Vec<&Site> = profile.growth.iter().filter(is_of_their_size).collect();
    if candidates.is_empty() {
        return Vec::new();
    }
    let labels = Labels::new(profile);
    let mut arenas: BTreeMap<ProcessId, u64> = BTreeMap::new();
    for site in candidates.into_iter().filter(|site| is_by_python(profile, &labels, site)) {
        let sum = arenas.entry(site.process).or_default();
        *sum = sum.saturating_add(site.totals.alloc_bytes);
    }
    let mapped = |id: ProcessId| {
        let sites = profile.growth.iter().filter(|site| site.process == id && site.function.is_growth());
        sites.fold(0, |sum: u64, site| sum.saturating_add(site.totals.alloc_bytes))
    };
    let mut lines: Vec<String> = arenas
        .into_iter()
        .filter(|(id, bytes)| *bytes >= LEAST && *bytes >= mapped(*id) / 10)
        .filter_map(|(id, bytes)| {
            let process = profile.processes.get(id.index()).filter(|process| chosen(process, options))?;
            Some(format!(
                "{}: Python mapped {} in pieces as its arenas are, in which objects of up to 512 bytes lie: no malloc sees these. \
                 Started with PYTHONMALLOC=malloc, each has a malloc of its own",
                process_name(process),
                human(bytes)
            ))
        })
        .collect();
    if lines.len() > SHOWN {
        let more = counted((lines.len() - SHOWN) as u64, "more process", "more processes");
        lines.truncate(SHOWN);
        lines.push(format!("the same of {more}"));
    }
    lines
}

/// Whether the innermost frame outside of the C library is Python's own.
fn is_by_python(profile: &Profile, labels: &Labels<'_>, site: &Site) -> bool {
    let files = labels.walk(Some(site.stack)).map(|label| {
        let module = labels.get(label).module.and_then(|module| profile.modules.get(module.index()));
        module.map_or("", |module| base_name(&module.path))
    });
    let mut files = files.skip_while(|file| file.starts_with("libc.so") || file.starts_with("libc-2."));
    files.next().is_some_and(|file| file.starts_with("python") || file.starts_with("libpython"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::full;

    #[test]
    fn arenas_are_mappings_of_their_size_by_python() {
        let mut profile = full();
        let said = |profile: &Profile| lines(profile, &Options::default());
        profile.growth[0].function = Function::Mmap;
        (profile.growth[0].totals.alloc_bytes, profile.growth[0].totals.alloc_count) = (8 << 20, 8);
        assert_eq!(said(&profile), [""; 0], "it is no Python's");
        profile.modules[0].path = "/usr/bin/python3.11".into();
        let lines = said(&profile);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("app:42: Python mapped 8.0 MiB in pieces as its arenas are"),
            "{lines:?}"
        );
        profile.growth[0].totals.alloc_bytes += 4_096;
        assert_eq!(said(&profile), [""; 0], "of another size");
    }
}
