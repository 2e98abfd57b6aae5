//! How one process would be traced: what speaks against it, its allocators, and every probe with its reason.

use super::diagnosis::{Allocator, Check, Fate, Function, Hidden, OwnSamples, Probe, Process, Site, Verdict};
use crate::{
    model::AllocatorInfo,
    probes::{
        discover::{Discoverer, ProcessView},
        plan::{FilePlan, FileRefusal, Own, Plan, Wanted},
        probe,
        refusal::refusal,
        symbols::{FileSymbols, Forward, FoundFunction},
    },
    process::{
        elf::Kind,
        procfs,
        status::{Seccomp, Status},
    },
};
use heaptrace_common::probe::Role;
use std::{
    collections::{BTreeMap, HashMap},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
};

/// Looks at process `pid` as `record -p` would, and places nothing.
pub fn examine(pid: u32) -> Process {
    if !procfs::exists(pid) {
        return Process { pid, reason: Some(format!("there is no process {pid}")), ..Process::default() };
    }
    // These anybody may read, also where the rest is closed to us.
    let status = procfs::read_status(pid).ok();
    let process = Process {
        pid,
        comm: procfs::comm(pid).ok(),
        threads: status.as_ref().map(|status| status.threads),
        uid: status.as_ref().map(|status| status.uid),
        ..Process::default()
    };
    let wanted = Wanted { own: Own::Preferred, ..Wanted::default() };
    let mut discoverer = Discoverer::with_cache(None, wanted);
    let (view, plan) = match discoverer.discover(pid) {
        Ok(found) => found,
        Err(error) => return Process { reason: Some(error.to_string()), ..process },
    };
    let reason =
        refusal(&view.status, &plan).map(|refusal| format!("process {pid} ({}): {refusal}", view.comm));
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
        checks: checks(&view, &plan),
        allocators: allocators(&files),
        probes: plan.files.iter().flat_map(probes).collect(),
        own_samples: own_samples(&plan),
        hidden: plan
            .hidden
            .iter()
            .map(|AllocatorInfo { kind, path }| Hidden { kind: kind.clone(), path: path.clone() })
            .collect(),
        left_out: plan.refusals.clone(),
        can_trace: reason.is_none(),
        reason,
        ..process
    }
}

/// Of each file that offers any, what it tells and what it does not.
fn own_samples(plan: &Plan) -> Vec<OwnSamples> {
    let mut files: BTreeMap<String, OwnSamples> = BTreeMap::new();
    let mut of = |path: &Path, add: &dyn Fn(&mut OwnSamples)| {
        let path = path.display().to_string();
        add(files.entry(path.clone()).or_insert(OwnSamples { path, ..OwnSamples::default() }));
    };
    for file in &plan.own {
        let probes = file.probes.iter().map(|probe| probe.symbol.clone());
        let probes: Vec<String> = probes.collect();
        of(&file.file.path, &|own| own.probes.clone_from(&probes));
    }
    for FileRefusal { path, what } in &plan.own_refusals {
        of(path, &|own| own.left_out.push(what.clone()));
    }
    files.into_values().collect()
}

fn check(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Check {
    Check { name, verdict, detail: detail.into() }
}

fn checks(view: &ProcessView, plan: &Plan) -> Vec<Check> {
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
    checks.push(seccomp(status));
    checks.push(match status.shadow_stack {
        false => check("shadow_stack", Fine, "none"),
        true => check("shadow_stack", Fine, "active; probes change no return address"),
    });
    // Its owner cannot look at it, and neither can we without CAP_SYS_PTRACE: then we would not be here.
    let mode = procfs::exe_metadata(identity.pid).map_or(0, |exe| exe.mode());
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
        "coroutines and green threads do no harm, also where they change threads within a call",
    ));
    checks
}

fn seccomp(status: &Status) -> Check {
    let mode = match status.seccomp {
        Seccomp::Off => return check("seccomp", Verdict::Fine, "off"),
        Seccomp::Strict => "strict mode",
        Seccomp::Filter => "a filter",
    };
    check("seccomp", Verdict::Fine, format!("{mode}; probes make no system call"))
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
    plan.probes.iter().map(|probe| {
        let sites: Vec<Site> = probe.sites.iter().map(site).collect();
        let first = probe.sites.first();
        let kind = probe.kind();
        Probe {
            symbol: probe.symbol.clone(),
            function: probe.function.name(),
            path: plan.file.path.display().to_string(),
            entry: probe.entry,
            offset: first.map_or(probe.entry, |site| site.offset),
            site: first.map_or(0, |site| i64::from(site.record.from_entry)),
            emulated: probe.sites.iter().all(|site| site.emulated),
            pushed: first.map_or(0, |site| site.record.pushed),
            returns: false,
            kind: kind.name(),
            traps: probe.traps(),
            sites,
            verified_from: probe.entered.as_ref().map(site),
            unseen_exits: probe.unseen_exits,
            why: match &probe.why {
                Some(why) => format!("{}; {why}", kind.meaning()),
                None => kind.meaning().to_owned(),
            },
        }
    })
}

fn site(site: &probe::Site) -> Site {
    let role = site.record.role;
    Site {
        offset: site.offset,
        from_entry: site.record.from_entry.into(),
        reads: match role {
            _ if role == Role::Begin as u8 => "arguments",
            _ if role == Role::Result as u8 => "result",
            _ if role == Role::Free as u8 => "free",
            _ if role == Role::Entered as u8 => "entry",
            _ => "whole call",
        },
        emulated: site.emulated,
        code: site.text.clone(),
    }
}
