//! Each format is opened by a program that it is for, which finds what the JSON report says.

mod callgrind;
mod dhat;
mod firefox;
mod heaptrack;
mod json_schema;
mod lines;
mod marks;
mod massif;
mod otlp;
mod page;
mod parts;
mod pprof;
mod recorded;
mod schema;
mod speedscope;
mod walk;

use anyhow::{Result, ensure};
use heaptrace_tests::{
    programs::Program,
    runner::{self, Test, end_to_end},
    session::Session,
};
use recorded::Recorded;
use std::process::ExitCode;

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("pprof: totals, names and labels are what `go tool pprof` shows", pprof::shown),
        end_to_end("pprof: a recording less itself is nothing", pprof::compared),
        end_to_end("pprof: it is not written to a terminal", pprof::on_terminal),
        end_to_end("pprof: samples are what they stand for, with their period", pprof::sampled),
        end_to_end("several processes: pprof, callgrind, dhat and heaptrack have each and all", several),
        end_to_end("callgrind: totals and recursion are what callgrind_annotate shows", callgrind::shown),
        end_to_end("massif: moments, peak and trees are what ms_print shows", massif::shown),
        end_to_end("massif: a pipe is refused, as it cannot be read again", massif::of_pipe),
        end_to_end("what is not shown is said on standard error where a format cannot", massif::hidden),
        end_to_end("speedscope: totals by each weight are the JSON report's", speedscope::totals),
        end_to_end("speedscope: it is as speedscope's own schema has it", speedscope::valid)
            .needing(speedscope::missing_schema()),
        end_to_end(
            "firefox: tables fit together, and come to the JSON report's totals",
            firefox::fits_together,
        ),
        end_to_end("dhat: what dh_view.js makes of it is the JSON report's", dhat::viewed),
        end_to_end("heaptrack: allocations, peak and leaks are what heaptrack_print shows", heaptrack::shown),
        end_to_end("otlp: OpenTelemetry's own classes decode it to the JSON report's totals", otlp::decoded)
            .needing(otlp::missing()),
        end_to_end(
            "json: reports of each mode and view are as the schema in docs has it",
            json_schema::valid,
        )
        .needing(json_schema::missing()),
        end_to_end("parts: the peak is the highest moment, and says how near the real one is", parts::peak),
        end_to_end("parts: a peak between two regular states is saved, too", parts::short_peak),
        end_to_end("parts: spans come to the whole, and say what shrank", parts::spans),
        end_to_end("parts: what was not saved is refused", parts::refused),
        end_to_end("marks: spans between them, also on the page, and what is none of ours", marks::between),
        in_browser("html: totals are the JSON report's", page::of_one("totals")),
        in_browser("html: the graph by keys, pointer and search", page::of_one("graph")),
        in_browser("html: the table sorted, grouped and filtered, and stacks in it", page::of_one("table")),
        in_browser(
            "html: a span of time, by brush and by keys, and what changed in it",
            page::of_one("time"),
        ),
        in_browser("html: light and dark, tabs, histograms, RSS and coverage", page::of_one("look")),
        in_browser("html: frames that are not the user's, folded as in text and all of them", page::frames),
        in_browser("html: several processes, one by one and together", page::several),
        in_browser("html: 20,000 stacks, and how long the longest tasks take", page::smooth).slow(),
        in_browser("html: names are texts, and nothing else is run or loaded", page::hostile),
        end_to_end("tui: the tree on a terminal has what the JSON report has", walk::walked),
        end_to_end(
            "tui: parts and groups are walked, and what cannot be is refused",
            walk::parts_and_refusals,
        ),
        end_to_end("csv: sqlite3 imports it, and its sums are the JSON report's", lines::imported),
        end_to_end("ndjson: jq finds in it what the JSON report has", lines::queried),
        end_to_end("diff: nothing changed since itself, and what grew is found", lines::compared),
        end_to_end("a view without stacks is refused with the formats that have it", pprof::refused),
    ])
}

fn in_browser(name: &str, run: impl FnOnce() -> Result<()> + Send + 'static) -> Test {
    end_to_end(name, run).needing(page::missing())
}

fn several() -> Result<()> {
    let session = Session::new(Program::C("process"), &["fork"]).options(&["--exact-children"]);
    let recorded = Recorded::of(&session)?;
    let processes = recorded.json()?.processes;
    ensure!(processes.len() > 1 && processes.iter().all(|of| of.alloc_count > 0), "no child: {processes:?}");
    pprof::several(&recorded)?;
    callgrind::several(&recorded)?;
    dhat::several(&recorded)?;
    heaptrack::several(&recorded)?;
    if otlp::missing().is_none() {
        otlp::several(&recorded)?;
    }
    Ok(())
}
