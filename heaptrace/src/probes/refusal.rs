//! Whether a process may be traced at all, and what its user is told where it may not.

use super::plan::Plan;
use crate::process::status::Status;
use std::path::PathBuf;

/// Why a process is not traced. The text says what is wrong and what can be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "it has no memory of its own (a kernel thread, or a process that has exited); choose another PID"
    )]
    NoMemory,
    #[error(
        "process {tracer} debugs it and has breakpoints where the probes of {} would go: remove them, or detach \
         the debugger",
        symbols.join(", ")
    )]
    Breakpoints { symbols: Vec<String>, tracer: u32 },
    #[error(
        "its code of {} in memory differs from the file at offset {offset:#x}: somebody has patched it, and probes \
         chosen by the file could harm it; trace it without what patches it",
        path.display()
    )]
    CodeChanged { path: PathBuf, offset: u64 },
    #[error(
        "it has no breakpoint in its code of {} at offset {offset:#x}, where {symbol} is probed: the kernel places none \
         in code that is writable, and code that is mapped anew loses them; calls would be missing",
        path.display()
    )]
    NoBreakpoint { path: PathBuf, symbol: String, offset: u64 },
    #[error(
        "{} was written to while it was traced: its code from offset {offset:#x} on is not what the probes were chosen \
         by; begin again",
        path.display()
    )]
    FileChanged { path: PathBuf, offset: u64 },
    #[error("{}", files.join("; "))]
    Served {
        /// A sentence of each.
        files: Vec<String>,
    },
    #[error("{} is {what}", path.display())]
    WrongMachine { path: PathBuf, what: String },
    #[error(
        "{} is a Go program that loads no C library: probes on Go functions corrupt the moving stacks of Go, so \
         they are never placed; use Go's own heap profile (runtime/pprof), or `record --trace growth`",
        path.display()
    )]
    Go { path: PathBuf },
    #[error(
        "its allocator tells of no samples: neither otel_memory:alloc nor ddheap:alloc is among the probes (USDT) that {} offer{}; \
         `record --trace sampled` chooses samples itself",
        list(looked_at),
        match left_out.as_slice() {
            [] => String::new(),
            left_out => format!(": {}", left_out.join("; ")),
        }
    )]
    NoSamples {
        looked_at: Vec<PathBuf>,
        /// What cannot be used.
        left_out: Vec<String>,
    },
    #[error(
        "no allocator was found in {}{}; `record --trace growth` tells who maps memory all the same",
        list(looked_at),
        match left_out.as_slice() {
            [] => "; if the program holds one, its symbols were stripped: keep them (do not strip), or link the \
                   allocator dynamically".to_owned(),
            left_out => format!(": {}", left_out.join("; ")),
        }
    )]
    NoAllocator {
        looked_at: Vec<PathBuf>,
        /// What the plan says was not looked into, or not probed.
        left_out: Vec<String>,
    },
}

/// Few enough to read; the rest are counted.
fn list(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<_> = paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    match paths.len() {
        0 => return "any file that could be read (none could)".to_owned(),
        len if len > SHOWN => names.push(format!("{} more", len - SHOWN)),
        _ => {}
    }
    names.join(", ")
}

/// Whether the process must be left alone, judged from its status and what was found in its files.
pub fn refusal(status: &Status, plan: &Plan) -> Option<Refusal> {
    if status.no_memory {
        return Some(Refusal::NoMemory);
    }
    if let Some((path, what)) = &plan.wrong_machine {
        return Some(Refusal::WrongMachine { path: path.clone(), what: what.clone() });
    }
    if plan.files.is_empty() && !plan.served.is_empty() {
        return Some(Refusal::Served { files: plan.served.clone() });
    }
    if plan.files.is_empty() && plan.only_own {
        return Some(Refusal::NoSamples {
            looked_at: plan.looked_at.clone(),
            left_out: plan.refusals.clone(),
        });
    }
    if plan.files.is_empty() {
        return Some(match &plan.go_executable {
            Some(path) => Refusal::Go { path: path.clone() },
            None => {
                Refusal::NoAllocator { looked_at: plan.looked_at.clone(), left_out: plan.refusals.clone() }
            }
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_thread_is_refused() {
        let status = Status { no_memory: true, ..Status::default() };
        assert_eq!(refusal(&status, &Plan::default()), Some(Refusal::NoMemory));
    }

    #[test]
    fn without_an_allocator_the_text_says_where_it_was_looked_for() {
        let looked_at = (0..10).map(|n| PathBuf::from(format!("/lib/{n}.so"))).collect();
        let plan = Plan { looked_at, ..Plan::default() };
        let text = refusal(&Status::default(), &plan).expect("refused").to_string();
        assert!(
            text.contains("/lib/0.so") && text.contains("2 more") && !text.contains("/lib/9.so"),
            "{text}"
        );
    }

    #[test]
    fn files_that_a_strangers_server_gives_are_the_reason() {
        let plan = Plan { served: vec!["/x: not probed".into()], ..Plan::default() };
        let text = refusal(&Status::default(), &plan).expect("refused").to_string();
        assert_eq!(text, "/x: not probed");
    }

    #[test]
    fn files_that_could_not_be_read_are_the_reason_why_no_allocator_was_found() {
        let plan = Plan { refusals: vec!["failed to open /x: denied".into()], ..Plan::default() };
        let text = refusal(&Status::default(), &plan).expect("refused").to_string();
        assert_eq!(
            text,
            "no allocator was found in any file that could be read (none could): failed to open /x: denied; \
             `record --trace growth` tells who maps memory all the same"
        );
    }

    #[test]
    fn a_go_program_is_named_as_such() {
        let plan = Plan { go_executable: Some("/usr/bin/x".into()), ..Plan::default() };
        let text = refusal(&Status::default(), &plan).expect("refused").to_string();
        assert!(text.starts_with("/usr/bin/x is a Go program"), "{text}");
    }
}
