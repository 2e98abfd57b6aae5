//! Whether a process may be traced at all, and what its user is told where it may not.

use super::plan::Plan;
use crate::process::status::Status;
use crate::process::system;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A kernel release, as far as it is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

impl KernelVersion {
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// The running kernel's. `None` if its release is not of the form `N.N...`.
    pub fn running() -> Option<Self> {
        system::kernel_release().parse().ok()
    }
}

impl FromStr for KernelVersion {
    type Err = ();

    /// Takes a release as `uname -r` prints it: `6.12.22+deb13-amd64`, `6.8`, `6.1.0-rc1`.
    fn from_str(release: &str) -> Result<Self, ()> {
        let mut parts = release.splitn(3, '.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().map_err(|_| ())
        });
        let major = parts.next().ok_or(())??;
        let minor = parts.next().ok_or(())??;
        let patch = parts.next().and_then(Result::ok).unwrap_or(0);
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

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
    #[error("{} is {what}", path.display())]
    WrongMachine { path: PathBuf, what: String },
    #[error(
        "{} is a Go program that loads no C library: probes on Go functions corrupt the moving stacks of Go, so \
         they are never placed; use Go's own heap profile (runtime/pprof)",
        path.display()
    )]
    Go { path: PathBuf },
    #[error(
        "no allocator was found in {}{}",
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
    use proptest::prelude::*;

    fn version(release: &str) -> KernelVersion {
        release.parse().expect("a release")
    }

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(version("6.12.22+deb13-amd64"), KernelVersion::new(6, 12, 22));
        assert_eq!(version("5.14.0-427.el9.x86_64"), KernelVersion::new(5, 14, 0));
        assert_eq!(version("6.8-rc1"), KernelVersion::new(6, 8, 0));
        assert!("linux".parse::<KernelVersion>().is_err());
    }

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
    fn files_that_could_not_be_read_are_the_reason_why_no_allocator_was_found() {
        let plan = Plan { refusals: vec!["failed to open /x: denied".into()], ..Plan::default() };
        let text = refusal(&Status::default(), &plan).expect("refused").to_string();
        assert_eq!(
            text,
            "no allocator was found in any file that could be read (none could): failed to open /x: denied"
        );
    }

    #[test]
    fn a_go_program_is_named_as_such() {
        let plan = Plan { go_executable: Some("/usr/bin/x".into()), ..Plan::default() };
        let text = refusal(&Status::default(), &plan).expect("refused").to_string();
        assert!(text.starts_with("/usr/bin/x is a Go program"), "{text}");
    }

    proptest! {
        #[test]
        fn any_release_is_parsed_without_panic(release in "\\PC*") {
            let _ = release.parse::<KernelVersion>();
        }
    }
}
