//! The flame graph of one process, into a new file of the current folder.

use crate::{
    created::create_new,
    model::{Names, ProcessId, Profile, Site},
    report::{Format, Options, View, render},
};
use anyhow::Context as _;
use std::io::{self, BufWriter, Write as _};

/// Writes it and gives the name of its file, which was not there before: no link that somebody left is followed, and
/// nothing is overwritten. Its owner alone can read it.
pub fn write(
    profile: &Profile,
    process: ProcessId,
    names: Names,
    growth: bool,
    pid: u32,
) -> anyhow::Result<String> {
    let profile = of_process(profile, process, names)?;
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut number = 1;
    let (name, file) = loop {
        let more = if number == 1 { String::new() } else { format!("-{number}") };
        let name = format!("heaptrace-{pid}-{time}{more}.svg");
        match create_new(name.as_ref()) {
            Ok(file) => break (name, file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => number += 1,
            Err(error) => return Err(error).with_context(|| format!("failed to create {name}")),
        }
    };
    let view = if growth { View::Growth } else { View::Live };
    let mut out = BufWriter::new(file);
    let written = render(Format::Svg, &profile, &Options { view, ..Options::default() }, &mut out);
    written.and_then(|_| out.flush()).with_context(|| format!("failed to write {name}"))?;
    Ok(name)
}

/// The same with the sites of one process only, and their names.
fn of_process(profile: &Profile, process: ProcessId, names: Names) -> anyhow::Result<Profile> {
    let mut profile = profile.clone();
    let is_its = |site: &Site| site.process == process;
    profile.sites.retain(is_its);
    profile.growth.retain(is_its);
    profile.name(names)?;
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::profiles::full,
        model::{LocationId, Symbol},
    };

    #[test]
    fn one_process_is_taken_from_a_snapshot_with_its_names() {
        let snapshot = full();
        let symbol = Symbol { name: "grow".into(), file: None, line: None, inlined: false };
        let names = Names { symbols: vec![(LocationId(3), vec![symbol.clone()])], ..Names::default() };
        let taken = of_process(&snapshot, ProcessId(1), names).expect("its places are there");
        assert!(snapshot.sites.iter().any(|site| site.process == ProcessId(0)));
        let its: Vec<_> = snapshot.sites.iter().filter(|site| site.process == ProcessId(1)).collect();
        assert!(!its.is_empty() && taken.sites.iter().eq(its));
        assert_eq!(taken.symbols[3], [symbol]);
    }
}
