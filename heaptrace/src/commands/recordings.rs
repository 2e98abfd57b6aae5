//! Recordings that people name: what is not there is told, with what to type.

use crate::{
    error::Usage,
    file::{Cut, ReadError, Recording, Source},
    model::{Location, Note, ProcessId, Profile},
    printable::say,
    process::procfs,
    symbolize::{DebugDirs, Found, Sources, open_perf_map, symbolize_with},
};
use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

/// What `record` writes where nobody says otherwise.
pub(super) const DEFAULT_FILE: &str = "heaptrace.data";

/// Why `file` cannot be read; [`Usage`] is the cause where there is no such file.
pub(super) fn cannot_read(file: &Path, error: ReadError) -> anyhow::Error {
    let name = file.display();
    match error {
        ReadError::NotFound => {
            let option = if file == Path::new(DEFAULT_FILE) { String::new() } else { format!("-o {name} ") };
            Usage(format!("there is no file {name}; record first: heaptrace record {option}./program")).into()
        }
        error => anyhow::Error::new(error).context(format!("failed to read {name}")),
    }
}

/// A recording as it was read: what is wrong with it was said, and is in its notes.
pub(super) struct Read {
    pub profile: Profile,
    /// As [`Recording::size`].
    pub size: u64,
    /// As [`Recording::room`].
    pub room: u64,
}

/// Reads `source`, which is `file`, whole.
pub(super) fn read(source: &mut Source, file: &Path) -> anyhow::Result<Read> {
    read_until(source, file, None)
}

/// The same, up to so many times that it was saved.
pub(super) fn read_until(source: &mut Source, file: &Path, last: Option<usize>) -> anyhow::Result<Read> {
    let read = source.read(&mut until(last));
    let Recording { mut profile, complete: _, cut, version, skipped, size, room } =
        read.map_err(|error| cannot_read(file, error))?;
    if let Some(Cut { block, offset, why }) = cut {
        profile.coverage.notes.take(Note::FileDamaged { block: block as u64, offset, reason: why });
    }
    for skipped in skipped.sentences(version) {
        say(format_args!("warning: {}: {skipped}", file.display()));
        profile.coverage.notes.take(Note::PartsSkipped { what: skipped });
    }
    Ok(Read { profile, size, room })
}

/// Has a recording read up to so many times that it was saved.
pub(super) fn until(last: Option<usize>) -> impl FnMut(&Profile, &[ProcessId]) -> ControlFlow<()> {
    let mut moments = 0;
    move |_, _| {
        moments += 1;
        if last == Some(moments) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Finds symbols for the locations that have none yet, on this machine.
pub(super) fn symbolize_rest(profile: &mut Profile, debug_dirs: DebugDirs) {
    profile.symbols.resize_with(profile.locations.len(), Vec::new);
    let bare: Vec<usize> =
        (0..profile.locations.len()).filter(|&index| profile.symbols[index].is_empty()).collect();
    let locations: Vec<Location> = bare.iter().map(|&index| profile.locations[index].clone()).collect();
    let ended_ns = profile.started_ns.saturating_add(i64::try_from(profile.duration_ns).unwrap_or(i64::MAX));
    let ended_ns = procfs::monotonic_ns_at(ended_ns);
    let sources = Sources {
        mapped: &|_| None,
        unchanged_since_ns: profile.started_ns,
        perf_map: &|id| open_perf_map(profile.processes.get(id.index())?, ended_ns),
    };
    let Found { symbols, notes } = symbolize_with(
        debug_dirs,
        &locations,
        &profile.modules,
        &|id| profile.processes.get(id.index()),
        &sources,
    );
    for (index, symbols) in bare.into_iter().zip(symbols) {
        profile.symbols[index] = symbols;
    }
    profile.coverage.notes.extend(notes.into_iter().map(|what| Note::NamesMissing { what }));
}

/// # Errors
/// If no process with this PID is in the recording `file`; says who is.
pub(super) fn check_pid(profile: &Profile, pid: u32, file: &Path) -> Result<(), Usage> {
    /// Few enough to read.
    const NAMED: usize = 20;
    if profile.processes.iter().any(|process| process.pid == pid) {
        return Ok(());
    }
    let there: BTreeMap<u32, &str> =
        profile.processes.iter().map(|process| (process.pid, process.comm.as_str())).collect();
    let mut named: Vec<String> =
        there.iter().take(NAMED).map(|(pid, comm)| format!("{pid} ({comm})")).collect();
    if there.len() > NAMED {
        named.push(format!("{} more", there.len() - NAMED));
    }
    let has = if named.is_empty() { "no process".to_owned() } else { named.join(", ") };
    let left_out = profile.coverage.untraceable.iter().find(|left_out| left_out.pid == pid);
    let why = left_out.map_or_else(String::new, |left_out| format!(" (not traced: {})", left_out.reason));
    Err(Usage(format!("process {pid} is not in {}{why}; in it: {has}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::profiles::full, model::Process};

    #[test]
    fn who_is_not_in_a_recording_is_told_who_is() {
        let mut profile = full();
        let file = Path::new("x.data");
        assert!(check_pid(&profile, 42, file).is_ok());
        let said = |profile: &Profile, pid| check_pid(profile, pid, file).expect_err("not there").to_string();
        assert_eq!(said(&profile, 7), "process 7 is not in x.data; in it: 42 (app), 43 (odd; name)");
        let why = "process 99 is not in x.data (not traced: no allocator was found in it)";
        assert!(said(&profile, 99).starts_with(why), "{}", said(&profile, 99));
        let one = profile.processes[0].clone();
        profile.processes = (1..=30).map(|pid| Process { pid, ..one.clone() }).collect();
        assert!(said(&profile, 31).ends_with("20 (app), 10 more"), "{}", said(&profile, 31));
        profile.processes.clear();
        assert!(said(&profile, 7).ends_with("in it: no process"));
    }

    #[test]
    fn a_file_that_is_not_there_is_a_usage_error() {
        let said = |name: &str, error| {
            let error = cannot_read(Path::new(name), error);
            (crate::error::exit_code(&error), format!("{error:#}"))
        };
        let words = "there is no file heaptrace.data; record first: heaptrace record ./program";
        assert_eq!(said(DEFAULT_FILE, ReadError::NotFound), (2, words.to_owned()));
        let words = "there is no file x.data; record first: heaptrace record -o x.data ./program";
        assert_eq!(said("x.data", ReadError::NotFound), (2, words.to_owned()));
        let words = "failed to read x.data: permission denied";
        assert_eq!(said("x.data", ReadError::PermissionDenied), (1, words.to_owned()));
    }
}
