//! What the kernel can do, asked piece by piece, and whether it takes heaptrace's programs as they are.

use super::diagnosis::{Attach, Feature, State, TracefsFound};
use crate::{
    bpf::{
        Calls, Features, LoadError, MapSizes, Options, StackMode, Tracer, UnwindSizes,
        probing::{self, Answer},
    },
    process::{
        mapped::MappingWatch,
        privileges::Privileges,
        tracefs::{self, ROOTS, Tracefs},
    },
};

/// The machine's part of a diagnosis.
pub struct Machine {
    pub features: Vec<Feature>,
    pub tracefs: TracefsFound,
    pub attach: Option<Attach>,
    /// Why nothing can be traced.
    pub refusal: Option<String>,
}

pub fn examine() -> Machine {
    let loaded = load();
    let attach = loaded.as_ref().ok().map(|features| match features {
        Features { multi_filter: false, .. } => Attach::PerfEvent,
        _ => Attach::UprobeMulti,
    });
    let (tracefs, syscalls) = tracefs();
    Machine {
        features: features(&loaded, syscalls),
        tracefs,
        attach,
        refusal: loaded.err().map(|error| match error {
            LoadError::Permission { source, advice: _ } => {
                format!("the kernel refused ({source}): {}", Privileges::read().lack())
            }
            error => error.to_string(),
        }),
    }
}

/// Loads what `record` loads, with small tables. It all goes away at once.
fn load() -> Result<Features, LoadError> {
    let sizes = MapSizes {
        live: 64,
        live_chunks: 0,
        sites: 64,
        frames: 1024,
        processes: 64,
        threads: 64,
        events: 64,
        statistics: true,
        estimates: false,
        by_thread: false,
        checks_frees: false,
        lifetimes: false,
        unwind: UnwindSizes::new(1, 1, 1),
    };
    let options = Options {
        all: false,
        probes_for_all: false,
        follow: true,
        stacks: StackMode::Auto,
        own_samples: false,
        sizes,
        growth: true,
        faults: true,
        calls: Calls::Summed,
        probes: true,
        frees: true,
        sample_bytes: 0,
        trial: true,
        log: false,
        members: None,
        block_sizes: None,
    };
    let (mut tracer, _events) = Tracer::load(&options)?;
    let features = tracer.features.clone();
    tracer.detach(Vec::new(), &|_, _| false);
    Ok(features)
}

fn features(loaded: &Result<Features, LoadError>, syscalls: Answer) -> Vec<Feature> {
    let programs = match loaded {
        Ok(_) => Answer::Yes,
        Err(LoadError::Permission { source, .. }) => Answer::Refused(source.to_string()),
        Err(error) => Answer::No(error.to_string()),
    };
    let filter = match loaded {
        Ok(features) if features.multi_filter => Answer::Yes,
        Ok(features) if features.multi_links => {
            Answer::No("a call in a second thread of heaptrace's own was not seen".to_owned())
        }
        Ok(_) => Answer::No("there are no multi links".to_owned()),
        Err(_) => Answer::Refused("it takes the programs, which were not loaded".to_owned()),
    };
    let mappings = match MappingWatch::start() {
        Ok(_) => Answer::Yes,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Answer::Refused(error.to_string())
        }
        Err(error) => Answer::No(error.to_string()),
    };
    vec![
        required(
            "programs",
            "heaptrace's BPF programs",
            "accounting calls; the kernel's verifier looked at every one of them",
            programs,
        ),
        required(
            "ring_buffer",
            "BPF ring buffer",
            "news of forks, execs, exits and libraries (Linux 5.8)",
            probing::ring_buffer(),
        ),
        required(
            "attach_cookies",
            "cookies of probes",
            "telling a probe's program which function it is in (Linux 5.15)",
            probing::cookies(),
        ),
        required(
            "btf",
            "kernel BTF",
            "finding the kernel's own records of processes and threads",
            probing::kernel_types(),
        ),
        optional(
            "uprobe_multi",
            "uprobe multi links",
            "placing all probes of a file by one link (Linux 6.6)",
            "perf events are used: a hit costs more, and removing takes 0.1 s for each probe",
            probing::multi_links(),
        ),
        optional(
            "uprobe_multi_threads",
            "their filter by process",
            "probing all threads of one process and no other process (Linux 6.10)",
            "perf events are used, as without multi links",
            filter,
        ),
        optional(
            "perf_links",
            "links of perf events",
            "cookies of probes that are perf events (Linux 5.15)",
            "without multi links nothing can be traced",
            probing::perf_links(),
        ),
        optional(
            "task_pt_regs",
            "bpf_task_pt_regs",
            "stacks of brk, mmap and mremap (Linux 5.15)",
            "record needs --no-growth",
            probing::task_pt_regs(),
        ),
        optional(
            "uprobe_btf",
            "BTF of uprobes",
            "walking stacks whose return addresses another tracer has replaced",
            "such stacks end there, and say so",
            probing::uprobe_types(),
        ),
        optional(
            "perf_mmap_events",
            "perf events of mappings",
            "knowing the code of short-lived processes and closed libraries",
            "code is read from /proc: some frames of short-lived processes have no name",
            mappings,
        ),
        optional(
            "syscall_tracepoints",
            "syscall tracepoints",
            "counting brk, mmap, munmap and mremap",
            "only the allocator's functions are counted; the report says so",
            syscalls,
        ),
    ]
}

fn required(name: &'static str, title: &'static str, used_for: &'static str, answer: Answer) -> Feature {
    Feature { required: true, ..optional(name, title, used_for, "nothing can be traced", answer) }
}

fn optional(
    name: &'static str,
    title: &'static str,
    used_for: &'static str,
    otherwise: &'static str,
    answer: Answer,
) -> Feature {
    let (state, detail) = match answer {
        Answer::Yes => (State::Works, None),
        Answer::No(why) => (State::Missing, Some(why)),
        Answer::Refused(why) => (State::Unknown, Some(why)),
    };
    Feature { name, title, state, required: false, used_for, otherwise, detail }
}

fn tracefs() -> (TracefsFound, Answer) {
    let found = |path: &std::path::Path, usable, advice| TracefsFound {
        mounted: true,
        path: Some(path.display().to_string()),
        usable,
        advice,
    };
    let none = || Answer::No("this kernel is built without them (CONFIG_FTRACE_SYSCALLS)".to_owned());
    match Tracefs::find() {
        Tracefs::Usable(root) => (found(&root, true, None), Answer::Yes),
        Tracefs::WithoutSyscalls(root) => (found(&root, false, None), none()),
        Tracefs::Closed { root, source } => {
            let advice = "run as root, or with CAP_DAC_READ_SEARCH".to_owned();
            let why = format!("{}: {source}", root.display());
            (found(&root, false, Some(advice)), Answer::Refused(why))
        }
        Tracefs::NotMounted => {
            let advice = format!(
                "record mounts it on {root} where it may (CAP_SYS_ADMIN); else, as root: mount -t tracefs tracefs \
                 {root}",
                root = ROOTS[0]
            );
            let answer = match tracefs::has_syscalls_unmounted() {
                Ok(true) => Answer::Yes,
                Ok(false) => none(),
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                    Answer::No("this kernel has no tracefs (CONFIG_TRACING)".to_owned())
                }
                Err(error) => {
                    Answer::Refused(format!("tracefs is not mounted, and it cannot be asked: {error}"))
                }
            };
            (TracefsFound { mounted: false, path: None, usable: false, advice: Some(advice) }, answer)
        }
    }
}
