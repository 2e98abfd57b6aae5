//! `heaptrace diff`: what changed from one recording to the next.

use super::{
    bytes::parse_bytes,
    debug_args::DebugArgs,
    frame_args::FrameArgs,
    headings::{OUTPUT, SHOWN},
    ignore_args::IgnoreArgs,
    output::{Destination, Output},
    raw_args::RawArgs,
    recordings::{Read, cannot_read, read, symbolize_rest},
    report::most_expanded,
    threshold_args::CROSSED,
};
use crate::symbolize::DebugDirs;
use crate::{
    attribution::{Attribution, Suppressions},
    error::Usage,
    file::Source,
    model::Mode,
    printable::say,
    report::{
        self, Compared, DiffBy, DiffChosen, DiffFormat, DiffNames, DiffOptions, Format, Limit, Per, Side,
        View, render_diff,
    },
};
use anyhow::bail;
use clap::Args;
use heaptrace_common::function::Function;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Recording from before.
    pub before: PathBuf,
    /// Recording from after; more of them show a trend.
    #[arg(required = true)]
    pub after: Vec<PathBuf>,
    /// What to compare. The default is `live`, or what the first recording tells most of.
    #[arg(long, value_enum, help_heading = SHOWN)]
    pub view: Option<View>,
    /// What rows are.
    #[arg(long, value_enum, default_value_t, help_heading = SHOWN)]
    pub by: DiffBy,
    /// Divide by the time that was traced (second), or by what was done in each recording: as many numbers as there are
    /// recordings, e.g. 1000,2500.
    #[arg(long, value_name = "second|COUNT,...", value_parser = parse_per, help_heading = SHOWN)]
    pub per: Option<Per>,
    /// Rows shown of what grew, is new, shrank and is gone; 0 shows all. JSON and CSV have all.
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = SHOWN)]
    pub top: usize,
    /// Leave out rows that changed by fewer bytes. Accepts the suffixes k, M and G (powers of 1024).
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse_bytes, help_heading = SHOWN)]
    pub min_bytes: u64,
    /// Exit with code 3, and name what grew, if all together or one row grew by so much: bytes (1MiB), or a share of all bytes
    /// before (5%). Of estimates, the least that they may have grown counts.
    #[arg(long, value_name = "BYTES|PERCENT", value_parser = parse_limit, help_heading = OUTPUT)]
    pub fail_if_grew: Option<Limit>,
    #[command(flatten)]
    pub frames: FrameArgs,
    #[command(flatten)]
    pub debug: DebugArgs,
    #[command(flatten)]
    pub ignore: IgnoreArgs,
    /// Output format. The default is by the ending of OUT (diff.svg, diff.json, diff.csv, diff.md); without one it is text.
    #[arg(long, value_enum, help_heading = OUTPUT)]
    pub format: Option<DiffFormat>,
    /// Write to this file; - is standard output.
    #[arg(short, long, value_name = "OUT", default_value = "-", help_heading = OUTPUT)]
    pub output: Destination,
    #[command(flatten)]
    pub raw: RawArgs,
}

/// Runs `heaptrace diff`.
///
/// # Errors
/// If a recording cannot be read or has nothing to compare, or the comparison cannot be written.
pub fn run(args: DiffArgs) -> anyhow::Result<ExitCode> {
    let DiffArgs {
        before,
        after,
        view,
        by,
        per,
        top,
        min_bytes,
        fail_if_grew,
        frames,
        debug,
        ignore,
        format,
        output,
        raw,
    } = args;
    let frames = frames.attribution()?;
    let suppressions = ignore.suppressions()?;
    let debug_dirs = debug.dirs()?;
    let format = match format {
        Some(format) => format,
        None => output.format(of_file, &FILES)?.unwrap_or_default(),
    };
    let files: Vec<PathBuf> = [before].into_iter().chain(after).collect();
    if let Some(Per::Counts(counts)) = &per
        && counts.len() != files.len()
    {
        return Err(Usage(format!(
            "--per has {} numbers, and there are {} recordings: one for each",
            counts.len(),
            files.len()
        ))
        .into());
    }
    if matches!(view, Some(View::Rss | View::Sizes | View::Leaks | View::Churn)) {
        return Err(
            Usage("diff compares call stacks: --view live, alloc, growth or faults".to_owned()).into()
        );
    }
    if format == DiffFormat::Svg && by != DiffBy::Stack {
        return Err(Usage("a flame graph is of whole call stacks: --by stack".to_owned()).into());
    }
    let out = files.iter().try_fold(None, |_, file| Output::open_beside(&output, file).map(Some))?;
    let mut names = DiffNames::new(frames.clone());
    // What programs read is whole.
    let whole_stacks = !matches!(format, DiffFormat::Text | DiffFormat::Markdown);
    let how = How {
        by,
        frames: &frames,
        whole_stacks,
        suppressions: suppressions.as_ref(),
        debug_dirs: &debug_dirs,
    };
    let mut sides = Vec::new();
    let mut view = view;
    for file in &files {
        sides.push(side(file, &mut view, how, &mut names)?);
    }
    let options = DiffOptions {
        view: view.unwrap_or_default(),
        by,
        per: per.unwrap_or_default(),
        top,
        min_bytes,
        limit: fail_if_grew,
    };
    let compared = Compared::new(names, sides, &options);
    if let Some(out) = out {
        out.with(raw.numbers()).print_all(|out| render_diff(format, &compared, &options, out))?;
    }
    if !compared.grew_too_much() {
        return Ok(ExitCode::SUCCESS);
    }
    for site in compared.too_much() {
        say(format_args!("{site}"));
    }
    Ok(CROSSED.into())
}

/// How recordings are read.
#[derive(Clone, Copy)]
struct How<'a> {
    by: DiffBy,
    frames: &'a Attribution,
    whole_stacks: bool,
    suppressions: Option<&'a Suppressions>,
    debug_dirs: &'a DebugDirs,
}

/// Reads a recording; where nobody says which view, it is that of the first.
fn side(file: &Path, view: &mut Option<View>, how: How<'_>, names: &mut DiffNames) -> anyhow::Result<Side> {
    let How { by, frames, whole_stacks, suppressions, debug_dirs } = how;
    let mut source = Source::open(file).map_err(|error| cannot_read(file, error))?;
    let Read { mut profile, size, room: _ } = read(&mut source, file)?;
    let view = *view.get_or_insert(View::of_mode(profile.mode));
    if view.is_of_blocks() && !profile.mode.has_blocks() {
        let mode = profile.mode.name();
        return Err(Usage(format!(
            "{} has no blocks, as it was made with --trace {mode}; --view {mode} compares what it has",
            file.display()
        ))
        .into());
    }
    let has_faults = || profile.growth.iter().any(|site| site.function == Function::PageFault);
    if view == View::Faults && profile.mode != Mode::Faults && !has_faults() {
        return Err(Usage(format!(
            "{} has no page faults: they are recorded with --faults, or --trace faults",
            file.display()
        ))
        .into());
    }
    symbolize_rest(&mut profile, debug_dirs.clone());
    let ignored = suppressions.map(|suppressions| report::ignore(&mut profile, suppressions, view, None));
    // As folded stacks, each is gone through once.
    let options = report::Options { view, ..report::Options::default() };
    let (bytes, most) = (report::expansion(Format::Folded, &profile, &options), most_expanded(size));
    if bytes > most && by != DiffBy::Process {
        bail!(
            "failed to compare {}: its stacks, written out, are {bytes} bytes, more than the {most} that a file of {size} may \
             come to; --by process leaves them out",
            file.display()
        );
    }
    let chosen = DiffChosen { view, by, frames, whole_stacks, ignored: ignored.as_ref() };
    Ok(Side::new(&file.display().to_string(), &profile, chosen, names))
}

const FILES: [&str; 5] = ["*.txt", "*.svg", "*.json", "*.csv", "*.md"];

/// The format that a file's name stands for.
fn of_file(path: &Path) -> Option<DiffFormat> {
    match path.extension()?.to_str()? {
        "svg" => Some(DiffFormat::Svg),
        "json" => Some(DiffFormat::Json),
        "csv" => Some(DiffFormat::Csv),
        "md" => Some(DiffFormat::Markdown),
        "txt" => Some(DiffFormat::Text),
        _ => None,
    }
}

/// `second`, or `1000,2500`.
fn parse_per(text: &str) -> Result<Per, String> {
    if matches!(text, "second" | "s" | "time") {
        return Ok(Per::Second);
    }
    let counts: Option<Vec<f64>> = text
        .split(',')
        .map(|count| count.trim().parse().ok().filter(|count: &f64| count.is_finite() && *count > 0.0))
        .collect();
    counts.map(Per::Counts).ok_or_else(|| {
        "expected `second`, or numbers above 0, one for each recording, as in 1000,2500".to_owned()
    })
}

/// `1MiB`, or `5%`.
fn parse_limit(text: &str) -> Result<Limit, String> {
    let Some(percent) = text.strip_suffix('%') else { return parse_bytes(text).map(Limit::Bytes) };
    match percent.trim().parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(Limit::Percent(percent)),
        _ => Err("expected a percentage, as in 5%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_stands_for_a_format_does() {
        for file in FILES {
            assert!(of_file(Path::new(file)).is_some(), "{file}");
        }
        assert_eq!(of_file(Path::new("diff.sgv")), None);
    }

    #[test]
    fn what_numbers_are_divided_by() {
        assert_eq!(parse_per("second"), Ok(Per::Second));
        assert_eq!(parse_per("1000, 2.5"), Ok(Per::Counts(vec![1000.0, 2.5])));
        for text in ["", "0,1", "-1", "inf", "1,", "minute"] {
            assert!(parse_per(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_bytes_or_percent() {
        assert_eq!(parse_limit("1MiB"), Ok(Limit::Bytes(1 << 20)));
        assert_eq!(parse_limit("5%"), Ok(Limit::Percent(5.0)));
        assert_eq!(parse_limit("0.5 %"), Ok(Limit::Percent(0.5)));
        for text in ["%", "-1%", "nan%", "x"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
    }
}
