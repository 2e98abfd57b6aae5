//! How one process would be traced: what speaks against it, its allocators, and every probe with its reason.

use super::diagnosis::{Allocator, Check, Fate, Function, Probe, Process, Verdict};
use crate::{
    probes::{
        discover::{Discoverer, ProcessView},
        plan::{FilePlan, Plan},
        refusal::{KernelVersion, refusal},
        symbols::{FileSymbols, Forward, FoundFunction},
    },
    process::{
        elf::Kind,
        procfs,
        status::{Seccomp, Status},
    },
};
use std::{collections::HashMap, fs, os::unix::fs::MetadataExt as _, sync::Arc};

/// Looks at process `pid` as `record -p` would, and places nothing.
pub fn examine(pid: u32) -> Process {
    let kernel = KernelVersion::running().unwrap_or(KernelVersion::new(0, 0, 0));
    // These anybody may read, also where the rest is closed to us.
    let status = procfs::read_status(pid).ok();
    let process = Process {
        pid,
        comm: procfs::comm(pid).ok(),
        threads: status.as_ref().map(|status| status.threads),
        uid: status.as_ref().map(|status| status.uid),
        ..Process::default()
    };
    let mut discoverer = Discoverer::new();
    let (view, plan) = match discoverer.discover(pid) {
        Ok(found) => found,
        Err(error) => return Process { reason: Some(error.to_string()), ..process },
    };
    let reason = refusal(&view.status, kernel, &plan)
        .map(|refusal| format!("process {pid} ({}): {refusal}", view.comm));
    let files: Vec<File> = view
        .objects
        .iter()
        .map(|object| File {
            path: object.path.display().to_string(),
            symbols: discoverer.symbols(object).unwrap_or_default(),
            is_go: object.elf.is_go,
            plan: plan.files.iter().find(|plan| plan.file.id() == object.id()),
        })
        .collect();
    Process {
        exe: (!view.exe.as_os_str().is_empty()).then(|| view.exe.display().to_string()),
        checks: checks(&view, &plan, kernel),
        allocators: allocators(&files),
        probes: plan.files.iter().flat_map(probes).collect(),
        left_out: plan.refusals.clone(),
        can_trace: reason.is_none(),
        reason,
        ..process
    }
}

fn check(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Check {
    Check { name, verdict, detail: detail.into() }
}

fn checks(view: &ProcessView, plan: &Plan, kernel: KernelVersion) -> Vec<Check> {
    use Verdict::{Fine, Note, Refused};
    let ProcessView { status, mappings, objects, identity, .. } = view;
    if status.no_memory {
        let detail = "it has none: a kernel thread, or a process that has exited";
        return vec![check("memory", Refused, detail)];
    }
    let mut checks = vec![match &plan.wrong_machine {
        Some((_, what)) => check("machine", Refused, what.as_str()),
        None if objects.first().is_some_and(|exe| exe.elf.kind == Kind::StaticExecutable) => {
            check("machine", Fine, "64-bit x86, linked statically")
        }
        None => check("machine", Fine, "64-bit x86"),
    }];
    checks.push(match &plan.go_executable {
        None => check("go", Fine, "not a Go program"),
        Some(_) if plan.files.is_empty() => {
            check("go", Refused, "a Go program without a C library; probes would corrupt Go's moving stacks")
        }
        Some(_) => check("go", Note, "a Go program: only what C code in it allocates is traced"),
    });
    checks.push(seccomp(status, kernel));
    checks.push(match status.shadow_stack {
        false => check("shadow_stack", Fine, "none"),
        true if kernel.uretprobe_knows_shadow_stacks() => {
            check("shadow_stack", Fine, "active; return probes of this kernel keep it in step")
        }
        true => check("shadow_stack", Refused, "active; return probes of this kernel would kill the process"),
    });
    // Its owner cannot look at it, and neither can we without CAP_SYS_PTRACE: then we would not be here.
    let mode = fs::metadata(procfs::path(identity.pid, "exe")).map_or(0, |exe| exe.mode());
    checks.push(match mode & (libc::S_ISUID | libc::S_ISGID) {
        0 => check("setuid", Fine, "no"),
        _ => check("setuid", Note, "the program is setuid or setgid; looking at it needs CAP_SYS_PTRACE"),
    });
    checks.push(match status.ns_pids.as_slice() {
        [_, .., inside] => check("namespace", Note, format!("in a PID namespace of its own, as {inside}")),
        _ => check("namespace", Fine, "in our PID namespace"),
    });
    let gone: Vec<String> = mappings
        .iter()
        .filter(|mapping| mapping.permissions.execute && mapping.deleted)
        .filter_map(|mapping| Some(mapping.file()?.display().to_string()))
        .collect();
    checks.push(if gone.is_empty() {
        check("deleted_files", Fine, "none")
    } else {
        check(
            "deleted_files",
            Note,
            format!("deleted or replaced on disk, and still mapped: {}", gone.join(", ")),
        )
    });
    checks.push(check(
        "stack_switching",
        Fine,
        "coroutines and green threads do no harm: an allocation function returns on the stack it was called on",
    ));
    checks
}

fn seccomp(status: &Status, kernel: KernelVersion) -> Check {
    let mode = match status.seccomp {
        Seccomp::Off => return check("seccomp", Verdict::Fine, "off"),
        Seccomp::Strict => "strict mode",
        Seccomp::Filter => "a filter",
    };
    if !kernel.has_uretprobe_syscall() {
        check("seccomp", Verdict::Fine, format!("{mode}; return probes of this kernel make no system call"))
    } else if kernel.seccomp_passes_uretprobe() {
        check("seccomp", Verdict::Fine, format!("{mode}; it is not asked about this kernel's return probes"))
    } else {
        check("seccomp", Verdict::Refused, format!("{mode}, which would kill the process at a probed return"))
    }
}

/// A file of the process, in resolution order.
struct File<'a> {
    path: String,
    symbols: Arc<FileSymbols>,
    is_go: bool,
    plan: Option<&'a FilePlan>,
}

fn allocators(files: &[File<'_>]) -> Vec<Allocator> {
    let mut winners: HashMap<&str, usize> = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        for function in file.symbols.functions.iter().filter(|function| function.exported) {
            winners.entry(&function.symbol).or_insert(index);
        }
    }
    let holders = files.iter().enumerate().filter(|(_, file)| !file.symbols.functions.is_empty());
    holders
        .map(|(index, file)| {
            let mut functions: Vec<&FoundFunction> = file.symbols.functions.iter().collect();
            functions.sort_by_key(|function| (function.offset, function.known.rank));
            let overrides = |function: &FoundFunction| {
                let winner = winners.get(function.symbol.as_str()).filter(|_| function.exported)?;
                (*winner != index).then(|| files[*winner].path.clone())
            };
            Allocator {
                kind: file.symbols.kind.name().to_owned(),
                path: file.path.clone(),
                called: file.plan.is_some(),
                probed: file.plan.map_or(0, |plan| plan.probes.len()),
                functions: functions
                    .iter()
                    .map(|function| {
                        let (fate, of) = fate(function, file, files, &overrides);
                        Function { symbol: function.symbol.clone(), fate, of }
                    })
                    .collect(),
            }
        })
        .collect()
}

/// What becomes of a function of `file`, and which function or file is the reason.
fn fate(
    function: &FoundFunction,
    file: &File<'_>,
    files: &[File<'_>],
    overrides: &dyn Fn(&FoundFunction) -> Option<String>,
) -> (Fate, Option<String>) {
    let probes = file.plan.map_or(&[][..], |plan| &plan.probes);
    if let Some(probe) = probes.iter().find(|probe| probe.entry == function.offset) {
        return match probe.symbol == function.symbol {
            true => (Fate::Probed, None),
            false => (Fate::Alias, Some(probe.symbol.clone())),
        };
    }
    if file.is_go {
        return (Fate::NotCounted, None);
    }
    // glibc's cfree is its free: it goes where free goes.
    let same = file.symbols.functions.iter().filter(|other| other.address == function.address);
    if let Some(by) = overrides(function).or_else(|| same.into_iter().find_map(overrides)) {
        return (Fate::Overridden, Some(by));
    }
    let probed = |symbol: &str| {
        let mut probes = files.iter().filter_map(|file| file.plan).flat_map(|plan| &plan.probes);
        probes.any(|probe| probe.symbol == symbol)
    };
    let target = match &function.forwards_to {
        Some(Forward::Symbol(symbol)) => Some(symbol.clone()).filter(|symbol| probed(symbol)),
        Some(Forward::Address(address)) => {
            let at = file.symbols.functions.iter().find(|other| other.address == *address);
            at.and_then(|at| probes.iter().find(|probe| probe.entry == at.offset))
                .map(|probe| probe.symbol.clone())
        }
        None => None,
    };
    match target {
        Some(target) => (Fate::Forwards, Some(target)),
        None => (Fate::NotCounted, None),
    }
}

fn probes(plan: &FilePlan) -> impl Iterator<Item = Probe> {
    plan.probes.iter().map(|probe| Probe {
        symbol: probe.symbol.clone(),
        function: probe.function.name(),
        path: plan.file.path.display().to_string(),
        entry: probe.entry,
        offset: probe.offset,
        site: u64::from(probe.site.offset),
        emulated: probe.site.emulated,
        pushed: probe.site.pushed,
        returns: probe.shape.needs_return(),
        why: probe.site.why.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seccomp_filter_is_judged_by_the_kernel() {
        let verdict = |seccomp, release: &str| {
            let status = Status { seccomp, ..Status::default() };
            super::seccomp(&status, release.parse().expect("a release")).verdict
        };
        assert_eq!(verdict(Seccomp::Off, "6.12.1"), Verdict::Fine);
        for mode in [Seccomp::Filter, Seccomp::Strict] {
            assert_eq!(verdict(mode, "6.1.0"), Verdict::Fine);
            assert_eq!(verdict(mode, "6.12.1"), Verdict::Refused);
            assert_eq!(verdict(mode, "6.18.0"), Verdict::Fine);
        }
    }
}
