//! `heaptrace report`: a recording, read, symbolized where it is not yet, and rendered or walked.

mod screen;
mod way;

use crate::commands::bytes::parse_bytes;
use crate::commands::debug_args::DebugArgs;
use crate::commands::frame_args::FrameArgs;
use crate::commands::headings::{OUTPUT, SHOWN};
use crate::commands::ignore_args::IgnoreArgs;
use crate::commands::open::Opener;
use crate::commands::output::{Destination, Output};
use crate::commands::parts::{Found, PartArgs};
use crate::commands::raw_args::RawArgs;
use crate::commands::recordings::{DEFAULT_FILE, Read, cannot_read, check_pid, read, symbolize_rest, until};
use crate::commands::threshold_args::{ThresholdArgs, say_crossed};
use crate::commands::verbose::VerboseArgs;
use crate::error::Usage;
use crate::file::{ReadError, Recording, Source};
use crate::model::{History, Peak, Profile, Stills, Timeline};
use crate::printable::say;
use crate::report::{self, By, Format, Options, Past, Thresholds, View};
use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum, builder::PossibleValue};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use way::Way;

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Recording to read.
    #[arg(default_value = DEFAULT_FILE)]
    pub file: PathBuf,
    /// What to report. The default is `live`, or what a recording by `record --trace` tells most of.
    #[arg(long, value_enum, help_heading = SHOWN)]
    pub view: Option<Shown>,
    /// Group rows by.
    #[arg(long, value_enum, default_value_t, help_heading = SHOWN)]
    pub by: By,
    /// Output format. The default is by the ending of OUT (heap.svg, heap.json); without one it is text.
    #[arg(long, value_enum, help_heading = OUTPUT)]
    pub format: Option<Format>,
    /// Write to this file; - is standard output.
    #[arg(short, long, value_name = "OUT", default_value = "-", help_heading = OUTPUT)]
    pub output: Destination,
    /// Show the page (html) in your browser: it stays in a file of yours, in $XDG_RUNTIME_DIR or /tmp.
    #[arg(long, conflicts_with = "output", help_heading = OUTPUT)]
    pub open: bool,
    /// Walk the call tree on the terminal: open and close callers, search, invert, sort; ? explains the keys.
    #[arg(long, conflicts_with_all = ["format", "output", "open", "hints"], help_heading = OUTPUT)]
    pub tui: bool,
    /// In flame graphs, folded stacks and --tui, begin with the function that called the allocator, and go on with its callers.
    #[arg(long, help_heading = SHOWN)]
    pub inverted: bool,
    /// Show only this process.
    #[arg(long, help_heading = SHOWN)]
    pub pid: Option<u32>,
    /// Leave out rows of fewer bytes. Accepts the suffixes k, M and G (powers of 1024).
    #[arg(long, help_heading = SHOWN, value_name = "N", default_value = "0", value_parser = parse_bytes)]
    pub min_bytes: u64,
    /// In text, leave out rows and branches below this percentage of all bytes; 0 shows all.
    #[arg(long, help_heading = SHOWN, value_name = "PERCENT", default_value = "0.5", value_parser = parse_percent)]
    pub percent_limit: u32,
    /// End the text with what the recording suggests to do, in words, each with the numbers that it goes by.
    #[arg(long, help_heading = SHOWN)]
    pub hints: bool,
    #[command(flatten)]
    pub part: PartArgs,
    #[command(flatten)]
    pub frames: FrameArgs,
    #[command(flatten)]
    pub debug: DebugArgs,
    #[command(flatten)]
    pub ignore: IgnoreArgs,
    #[command(flatten)]
    pub thresholds: ThresholdArgs,
    #[command(flatten)]
    pub raw: RawArgs,
    #[command(flatten)]
    pub verbose: VerboseArgs,
}

/// What a report is about: a view, of the end where nothing else is said, or of the moment at which most was live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    View(View),
    Peak,
}

impl ValueEnum for Shown {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::View(View::Live),
            Self::View(View::Leaks),
            Self::Peak,
            Self::View(View::Alloc),
            Self::View(View::Churn),
            Self::View(View::Sizes),
            Self::View(View::Growth),
            Self::View(View::Faults),
            Self::View(View::Rss),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::View(view) => view.to_possible_value(),
            Self::Peak => Some(PossibleValue::new("peak").help(
                "Live when most was: of the moments at which the recording was saved, the highest; says how near that is to the \
                 real peak",
            )),
        }
    }
}

impl ReportArgs {
    /// What opens the page, where that is asked for: to be started before privileges are given up.
    ///
    /// # Errors
    /// If nothing can be shown.
    pub fn opener(&self) -> anyhow::Result<Option<Opener>> {
        if self.open && self.format.is_some_and(|format| format != Format::Html) {
            return Err(Usage("--open shows --format html; -o writes others to files".to_owned()).into());
        }
        self.open.then(Opener::start).transpose()
    }
}

/// Runs `heaptrace report`.
///
/// # Errors
/// If the recording cannot be read, or the report cannot be written.
pub fn run(args: ReportArgs, opener: Option<Opener>) -> anyhow::Result<ExitCode> {
    let ReportArgs {
        file,
        view,
        by,
        format,
        output,
        open: _,
        tui,
        inverted,
        pid,
        min_bytes,
        percent_limit,
        part,
        hints,
        frames,
        debug,
        ignore,
        thresholds,
        raw,
        verbose,
    } = args;
    let is_peak = view == Some(Shown::Peak);
    let view = view.map(|shown| match shown {
        Shown::View(view) => view,
        Shown::Peak => View::Live,
    });
    let frames = frames.attribution()?;
    let suppressions = ignore.suppressions()?;
    let debug_dirs = debug.dirs()?;
    let thresholds = thresholds.thresholds();
    let way = match format {
        _ if tui => Way::walked()?,
        Some(format) => Way::Written(format),
        None if opener.is_some() => Way::Written(Format::Html),
        None => Way::Written(output.format(Format::of_file, &Format::files())?.unwrap_or(Format::Text)),
    };
    way.check(view, inverted, suppressions.is_some(), &output)?;
    let output = match (&opener, way) {
        (_, Way::Walked) => None,
        (Some(opener), _) => {
            Some(Output::opened(opener.page().context("failed to open the page")?, "the page"))
        }
        (None, _) => Some(Output::open_beside(&output, &file)?.with(raw.numbers())),
    };
    let failed = |error| cannot_read(&file, error);
    let mut source = Source::open(&file).map_err(failed)?;
    let is_part = is_peak || part.is_some();
    if (way.past() != Past::None || is_part) && !source.is_repeatable() {
        let what = match is_part {
            false => way.option(),
            true => "a part of its time".to_owned(),
        };
        let file = file.display();
        return Err(Usage(format!(
            "{what} reads the recording more than once, which {file} cannot be, as it is no file: save it to a file, and \
             report on that"
        ))
        .into());
    }
    let asked = part.asked(is_peak, &mut source, &file)?;
    let found = Found::find(asked, &mut source, &file, pid)?;
    let history = match (way.past(), &found) {
        (Past::None, _) => None,
        (_, Some(found)) if found.is_span() => None,
        (past, found) => {
            let last = found.as_ref().and_then(Found::to);
            Some(history(&mut source, pid, past, last).map_err(failed)?)
        }
    };
    let Read { mut profile, size, room } = match found {
        Some(found) => found.read(&mut source, &file)?,
        None => read(&mut source, &file)?,
    };
    profile.history = history;
    if let Some(pid) = pid {
        check_pid(&profile, pid, &file)?;
    }
    let view = view.unwrap_or(View::of_mode(profile.mode));
    if view.is_of_blocks() && !profile.mode.has_blocks() {
        let mode = profile.mode.name();
        return Err(Usage(format!(
            "{} has no blocks, as it was made with --trace {mode}; --view {mode} shows what it has",
            file.display(),
        ))
        .into());
    }
    if by == By::Thread && !profile.by_thread {
        return Err(Usage(format!(
            "--by thread: {} does not tell threads apart; record again with `heaptrace record --threads`",
            file.display()
        ))
        .into());
    }
    if by == By::Thread && way == Way::Walked {
        return Err(Usage("--tui has no tree of threads: --by thread is for reports".to_owned()).into());
    }
    if matches!(view, View::Leaks | View::Churn) && by != By::Stack {
        return Err(Usage(
            "--view leaks and churn have rows of their own: --by is for other views".to_owned(),
        )
        .into());
    }
    if view == View::Churn && !profile.mode.has_frees() {
        return Err(Usage(format!(
            "{}: frees were not traced, so what was freed is not known",
            file.display()
        ))
        .into());
    }
    if hints && (way != Way::Written(Format::Text) || !profile.mode.has_blocks()) {
        return Err(Usage("--hints is for reports of blocks in text".to_owned()).into());
    }
    asked.check(view, profile.mode, &file)?;
    if view == View::Sizes && profile.mode.sample_bytes() != 0 {
        return Err(Usage(format!(
            "{} has samples, and their sizes are not those of all blocks; --view alloc shows what they stand for",
            file.display(),
        ))
        .into());
    }
    if view == View::Rss && (suppressions.is_some() || thresholds != Thresholds::default()) {
        return Err(Usage(
            "--view rss is of memory as it was measured: --ignore, --fail-above and --fail-on are for other views".to_owned(),
        )
        .into());
    }
    check_thresholds(&profile, view, thresholds, &file)?;
    symbolize_rest(&mut profile, debug_dirs);
    let ignored =
        suppressions.as_ref().map(|suppressions| report::ignore(&mut profile, suppressions, view, pid));
    let options = Options {
        view,
        by,
        inverted,
        pid,
        min_bytes,
        limit: percent_limit,
        memory: Some(room),
        verbose: verbose.footer(),
        frames,
        hints,
        ignored,
    };
    let (bytes, most) = (report::expansion(way.format(), &profile, &options), most_expanded(size));
    if bytes > most {
        bail!(
            "failed to report on {}: its stacks, written out, are {bytes} bytes, more than the {most} that a \
             file of {size} may come to; --by site, module or process leaves them out",
            file.display()
        );
    }
    match (way, output) {
        (Way::Written(format), Some(output)) => write(format, output, &profile, &options)?,
        _ => screen::run(&profile, &options, &file.display().to_string())?,
    }
    if let Some(opener) = opener {
        opener.open()?;
    }
    if let Some(uncounted) = report::uncounted_live(&profile, &options, thresholds) {
        say(format_args!("{uncounted}"));
    }
    Ok(say_crossed(&report::crossed(&profile, &options, thresholds)).unwrap_or(ExitCode::SUCCESS))
}

/// Writes the report down; what it has no place for is said.
fn write(format: Format, output: Output, profile: &Profile, options: &Options) -> anyhow::Result<()> {
    let mut untold = None;
    output.print_all(|out| {
        untold = report::render(format, profile, options, out)?;
        Ok(())
    })?;
    if format.replaces(options.view) {
        say(format_args!("warning: --format {} has no sizes: it is of --view alloc", format.name()));
    }
    if let Some(untold) = untold {
        say(format_args!("warning: {untold}"));
    }
    if !format.tells_losses() {
        for part in report::part(profile) {
            say(format_args!("{part}"));
        }
        for loss in report::losses(profile) {
            say(format_args!("warning: {loss}"));
        }
    }
    // The others have a place for it.
    if !matches!(format, Format::Text | Format::Json | Format::Ndjson) {
        for line in options.ignored.iter().flat_map(|ignored| ignored.lines(("block", "blocks"), false)) {
            say(format_args!("{line}"));
        }
    }
    Ok(())
}

/// # Errors
/// If a recording cannot tell whether a threshold is crossed.
fn check_thresholds(profile: &Profile, view: View, thresholds: Thresholds, file: &Path) -> Result<(), Usage> {
    let file = file.display();
    let Thresholds { above, leak_like } = thresholds;
    if above.is_some() && matches!(view, View::Live | View::Leaks) && profile.mode.ends_unseen() {
        return Err(Usage(format!(
            "--fail-above: frees were not traced, so that what is live is at most what {file} has, and may be nothing; --view \
             alloc knows what was allocated"
        )));
    }
    if leak_like && profile.part.is_some() {
        return Err(Usage("--fail-on: verdicts are of a recording's end, and of no part of it".to_owned()));
    }
    if leak_like && !report::has_verdicts(profile) {
        return Err(Usage(format!(
            "--fail-on: {file} has no verdicts, as it has no blocks, or did not finish, or is of an older heaptrace"
        )));
    }
    Ok(())
}

/// How the recording came about, up to so many times that it was saved. It is read as often as it takes to have only one profile in memory at a time: to find the
/// peak, and to see what was live then, or at several moments.
fn history(
    source: &mut Source,
    pid: Option<u32>,
    past: Past,
    last: Option<usize>,
) -> Result<History, ReadError> {
    let (mut timeline, mut stop) = (Timeline::new(pid), until(last));
    let sites = source
        .read(&mut |profile, changed| {
            timeline.take(profile, changed);
            stop(profile, changed)
        })?
        .profile
        .sites
        .len();
    if past == Past::Stills {
        let mut stills = Stills::new(timeline.saved(), timeline.peak(), timeline.marked(), sites);
        let mut stop = until(last);
        drop(source.read(&mut |profile, changed| {
            stills.take(profile);
            stop(profile, changed)
        })?);
        return Ok(timeline.history(None, stills.taken()));
    }
    let Some(number) = timeline.peak() else {
        return Ok(timeline.history(None, Vec::new()));
    };
    let Recording { profile, .. } = source.read(&mut until(Some(number)))?;
    Ok(timeline.history(Some(Peak::of(&profile)), Vec::new()))
}

/// How much of stacks may be gone through for a recording of `size` bytes. Real ones, which have most stacks once, come to
/// 10 to 200 times their size.
pub(crate) fn most_expanded(size: u64) -> u64 {
    size.saturating_mul(1_000).saturating_add(1 << 30)
}

/// A percentage, in hundredths.
fn parse_percent(text: &str) -> Result<u32, String> {
    let percent: f64 =
        text.trim_end_matches('%').parse().map_err(|_| "expected a percentage, as in 0.5".to_owned())?;
    if (0.0..=100.0).contains(&percent) {
        Ok((percent * 100.0).round() as u32)
    } else {
        Err("expected a percentage from 0 to 100".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_in_hundredths() {
        assert_eq!(["0", "0.5", "1%", "100"].map(parse_percent), [0, 50, 100, 10_000].map(Ok));
        for text in ["", "-1", "101", "nan", "x"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }
}
