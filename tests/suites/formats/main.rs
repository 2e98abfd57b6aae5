//! Each format is opened by a program that it is for, which finds what the JSON report says.

mod callgrind;
mod dhat;
mod firefox;
mod massif;
mod pprof;
mod recorded;
mod schema;
mod speedscope;

use heaptrace_tests::runner::{self, end_to_end};
use std::process::ExitCode;

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("pprof: totals, names and labels are what `go tool pprof` shows", pprof::shown),
        end_to_end("pprof: a recording less itself is nothing", pprof::compared),
        end_to_end("callgrind: totals and recursion are what callgrind_annotate shows", callgrind::shown),
        end_to_end("massif: moments, peak and trees are what ms_print shows", massif::shown),
        end_to_end("speedscope: totals by each weight are the JSON report's", speedscope::totals),
        end_to_end("speedscope: it is as speedscope's own schema has it", speedscope::valid)
            .needing(speedscope::missing_schema()),
        end_to_end(
            "firefox: tables fit together, and come to the JSON report's totals",
            firefox::fits_together,
        ),
        end_to_end("dhat: what dh_view.js makes of it is the JSON report's", dhat::viewed),
        end_to_end("a view without stacks is refused with the formats that have it", pprof::refused),
    ])
}
