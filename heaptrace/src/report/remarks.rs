//! What a reader must know of a report's numbers, in lines, for formats that have a place for comments.

use super::stacks::{Measure, Stacks};
use super::{footer, part, table::process_name, text};
use crate::model::Mode;
use crate::printable::printable;
use crate::units::{counted, thousands};

/// What was recorded by what; what its numbers are not; then the footer of the text report.
pub(super) fn remarks(stacks: &Stacks<'_>) -> Vec<String> {
    let profile = stacks.profile;
    let (version, kernel) = (printable(&profile.heaptrace), printable(&profile.host.kernel));
    let mut lines = vec![format!(
        "heaptrace {version} on Linux {kernel} {}, {}",
        printable(&profile.host.arch),
        text::started(profile)
    )];
    lines.extend(part::part(profile));
    let has = |measure| stacks.measures.contains(&measure);
    if profile.mode.sample_bytes() > 0 && (has(Measure::Allocated) || has(Measure::Live)) {
        lines.push("bytes and blocks are estimates, made from samples".into());
    }
    if !profile.mode.has_frees() && has(Measure::Live) {
        lines.push("live is a bound: frees were not traced, and there may be less".into());
    }
    if has(Measure::Mapped) {
        lines.push("mapped: by brk, mmap and mremap, given back since or not".into());
    }
    if has(Measure::Touched) {
        lines.push("touched: page faults, each counted as one page".into());
    }
    let attached = profile.attached_fraction();
    if attached < 1.0 {
        lines.push(format!("all probes were in place for {:.2}% of the processes' time", 100.0 * attached));
    }
    lines.extend(stacks.not_shown());
    lines.extend(footer::lines(profile, false));
    lines
}

/// How the peak of live bytes is known, where there is a history to have one.
pub(super) fn of_peak(stacks: &Stacks<'_>) -> Vec<String> {
    let profile = stacks.profile;
    let has_live = stacks.measures.contains(&Measure::Live);
    let Some(history) = profile.history.as_ref().filter(|_| has_live) else { return Vec::new() };
    let moments = counted(history.saved, "moment", "moments");
    let mut lines = vec![format!("the peak is the highest of {moments} at which the recording was saved")];
    let processes = stacks.processes();
    let highest = processes.iter().max_by_key(|process| process.peak_live_bytes);
    lines.extend(highest.filter(|process| process.peak_live_bytes > 0).map(|process| {
        let about = if profile.mode.sample_bytes() > 0 { "about " } else { "" };
        format!("{} had at most {about}{} bytes", process_name(process), thousands(process.peak_live_bytes))
    }));
    lines
}

/// The only process's program, or the first processes, for formats of one command.
pub(super) fn command(stacks: &Stacks<'_>) -> String {
    /// Few enough to read.
    const NAMED: usize = 8;
    match stacks.processes()[..] {
        [process] => printable(&process.exe).into_owned(),
        ref several => {
            several.iter().take(NAMED).map(|process| process_name(process)).collect::<Vec<_>>().join(" ")
        }
    }
}

/// What a measure is, in bytes or in numbers, and what it is not: for formats with no place for more.
pub(super) fn title(mode: Mode, measure: Measure, is_bytes: bool) -> String {
    let [bytes, count] = match measure {
        Measure::Allocated => ["allocated bytes", "allocated blocks"],
        Measure::Live => ["live bytes", "live blocks"],
        Measure::Mapped => ["mapped bytes", "calls that map memory"],
        Measure::Touched => ["bytes touched first", "page faults"],
    };
    let mut title = if is_bytes { bytes } else { count }.to_owned();
    if measure == Measure::Live && !mode.has_frees() {
        title += ", at most";
    }
    if mode.sample_bytes() > 0 && matches!(measure, Measure::Live | Measure::Allocated) {
        title += ", estimated from samples";
    }
    title
}

/// The same of a measure of `stacks`, with what is not shown of them.
pub(super) fn title_of(stacks: &Stacks<'_>, measure: usize, is_bytes: bool) -> String {
    let title = title(stacks.profile.mode, stacks.measures[measure], is_bytes);
    match stacks.not_shown() {
        Some(hidden) => format!("{title}; {hidden}"),
        None => title,
    }
}
