//! The diagnosis for people: what works first, the verdict last.

use super::diagnosis::{
    Allocator, Attach, Cost, Diagnosis, Fate, Feature, Hidden, ModePrice, Modes, OwnSamples, Privileges,
    Probe, Process, Site, State, TracefsFound, Verdict,
};
use crate::printable::printable;
use std::collections::BTreeMap;
use std::io::{self, Write};

type Out<'a> = &'a mut dyn Write;

pub fn render(diagnosis: &Diagnosis, out: Out<'_>) -> io::Result<()> {
    let Diagnosis {
        schema: _,
        heaptrace,
        host,
        attach,
        features,
        privileges,
        tracefs,
        cost,
        process,
        can_trace,
        reason,
        modes,
    } = diagnosis;
    writeln!(out, "heaptrace {heaptrace} on Linux {} {}\n", printable(&host.kernel), host.arch)?;
    kernel(features, *attach, out)?;
    rights(privileges, out)?;
    tracing_files(tracefs, out)?;
    costs(cost, out)?;
    if let Some(modes) = modes {
        prices(modes, out)?;
    }
    if let Some(process) = process {
        target(process, out)?;
    }
    let what =
        process.as_ref().map_or("this machine".to_owned(), |process| format!("process {}", process.pid));
    match reason {
        None if *can_trace => {
            let hidden = process.iter().flat_map(|process| &process.hidden);
            let hidden: Vec<_> = hidden.map(|of| printable(&of.kind).into_owned()).collect();
            match hidden.is_empty() {
                true => writeln!(out, "Verdict: {what} can be traced."),
                false => writeln!(
                    out,
                    "Verdict: {what} has {} inside, without names of its functions: what that allocates is not seen. A build \
                     with its symbols can be traced, and without, --trace growth or faults shows the memory. What else is \
                     called in it can be traced.",
                    hidden.join(" and ")
                ),
            }
        }
        reason => {
            writeln!(out, "Verdict: cannot trace: {}", printable(reason.as_deref().unwrap_or("unknown")))
        }
    }
}

fn kernel(features: &[Feature], attach: Option<Attach>, out: Out<'_>) -> io::Result<()> {
    writeln!(out, "Kernel (asked, not guessed from its version)")?;
    for feature in features {
        let Feature { name: _, title, state, required, used_for, otherwise, detail } = feature;
        let state = match state {
            State::Works => "works",
            State::Missing if *required => "MISSING",
            State::Missing => "missing",
            State::Unknown => "unknown",
        };
        writeln!(out, "  {state:<8} {title:<25} {used_for}")?;
        let detail = detail.as_deref().map(printable).unwrap_or_default();
        // The verifier's last words are many; the JSON has them all.
        let detail: String = detail.chars().take(300).collect();
        match feature.state {
            State::Works => {}
            State::Missing => writeln!(out, "           {:25} without: {otherwise}; because: {detail}", "")?,
            State::Unknown => writeln!(out, "           {:25} not known: {detail}", "")?,
        }
    }
    let attach = match attach {
        Some(Attach::UprobeMulti) => "Probes are placed by uprobe multi links",
        Some(Attach::PerfEvent) => "Probes are placed by perf events",
        None => "Probes: not available on this machine",
    };
    writeln!(out, "  {attach}.\n")
}

fn rights(privileges: &Privileges, out: Out<'_>) -> io::Result<()> {
    let Privileges { uid, effective_uid, user_namespace, capabilities, missing, grants, settings } =
        privileges;
    writeln!(out, "Privileges (uid {uid}, effective uid {effective_uid})")?;
    if *user_namespace {
        writeln!(out, "  in a user namespace of its own, whose capabilities do not count for BPF")?;
    }
    for capability in capabilities {
        let held = match (capability.held, capability.required) {
            (true, _) => "held",
            (false, true) => "MISSING",
            (false, false) => "missing",
        };
        writeln!(out, "  {held:<8} {:<25} {}", capability.name, capability.used_for)?;
        if !capability.held {
            writeln!(out, "           {:25} without: {}", "", capability.otherwise)?;
        }
    }
    if !missing.is_empty() {
        writeln!(out, "  What grants them:")?;
        for grant in grants {
            writeln!(out, "    {}: {}", grant.how, printable(&grant.command))?;
        }
    }
    for setting in settings {
        let value = setting.value.as_deref().map_or("not there".into(), printable);
        writeln!(out, "  {} = {value}: {}", setting.name, setting.meaning)?;
    }
    writeln!(out)
}

fn tracing_files(tracefs: &TracefsFound, out: Out<'_>) -> io::Result<()> {
    let TracefsFound { mounted: _, path, usable, advice } = tracefs;
    match (path, usable) {
        (Some(path), true) => write!(out, "tracefs: on {path}, readable")?,
        (Some(path), false) => write!(out, "tracefs: on {path}, of no use")?,
        (None, _) => write!(out, "tracefs: not mounted")?,
    }
    match advice {
        Some(advice) => writeln!(out, "; {}\n", printable(advice)),
        None => writeln!(out, "\n"),
    }
}

fn costs(cost: &Cost, out: Out<'_>) -> io::Result<()> {
    let Cost { measured_in, attach: _, calls_per_round, rounds, emulated_ns, single_stepped_ns, error } =
        cost;
    match (emulated_ns, single_stepped_ns) {
        (Some(emulated), Some(stepped)) => {
            writeln!(
                out,
                "Cost of a hit (measured in {measured_in} with empty programs: the least of {rounds} rounds of \
                 {calls_per_round} calls)"
            )?;
            writeln!(out, "  at an emulated instruction        {emulated:>8.0} ns")?;
            writeln!(out, "  at a single-stepped instruction   {stepped:>8.0} ns")?;
        }
        _ => {
            let why = error.as_deref().unwrap_or("unknown");
            writeln!(out, "Cost of a hit: not measured: {}", printable(why))?;
        }
    }
    writeln!(out)
}

fn prices(modes: &Modes, out: Out<'_>) -> io::Result<()> {
    let Modes { measured_in, prices, error } = modes;
    if let Some(error) = error {
        return writeln!(out, "What each mode costs: not measured: {}\n", printable(error));
    }
    let alone = prices.first().map_or(0.0, |price| price.alone_ns);
    writeln!(
        out,
        "What each mode of --trace costs a malloc and free (measured in {measured_in}, where they take {alone:.0} ns alone)"
    )?;
    for ModePrice { mode, frees, alone_ns, pair_ns } in prices {
        let name = if *frees { format!("{mode} --frees") } else { (*mode).to_owned() };
        let more = (pair_ns - alone_ns).max(0.0);
        writeln!(out, "  {name:<16} {more:>6.0} ns more   {}", tells(mode, *frees))?;
    }
    writeln!(
        out,
        "  {:<16} nothing; a trap a sample, where the allocator tells of samples (`heaptrace doctor PID` says)",
        "native"
    )?;
    writeln!(out)
}

/// What a mode can tell and what it cannot.
fn tells(mode: &str, frees: bool) -> &'static str {
    match (mode, frees) {
        ("growth", _) => "who maps memory (brk, mmap); no blocks",
        ("faults", _) => "the same, and who touches memory first (a microsecond a page)",
        ("sampled", false) => "who allocates, estimated; what is live, at most",
        ("sampled", true) => "who allocates, and what is live, estimated",
        ("allocs", _) => "who allocates, exactly; what is live, at most",
        _ => "everything, exactly",
    }
}

fn target(process: &Process, out: Out<'_>) -> io::Result<()> {
    let Process {
        pid,
        comm,
        exe,
        threads,
        uid,
        checks,
        allocators,
        probes,
        own_samples,
        hidden,
        left_out,
        can_trace: _,
        reason,
    } = process;
    write!(out, "Process {pid}")?;
    if let Some(comm) = comm {
        write!(out, " ({})", printable(comm))?;
    }
    if let Some(exe) = exe {
        write!(out, ": {}", printable(exe))?;
    }
    if let (Some(threads), Some(uid)) = (threads, uid) {
        write!(out, "; {threads} thread{}, uid {uid}", if *threads == 1 { "" } else { "s" })?;
    }
    writeln!(out)?;
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Fine => "fine",
            Verdict::Note => "note",
            Verdict::Refused => "REFUSED",
        };
        writeln!(out, "  {verdict:<8} {:<16} {}", check.name.replace('_', " "), printable(&check.detail))?;
    }
    if !allocators.is_empty() {
        writeln!(out, "  Allocation functions, in the order in which the program's calls are resolved:")?;
    }
    for (index, allocator) in allocators.iter().enumerate() {
        writeln!(out, "  {:>3}. {}", index + 1, describe(allocator))?;
    }
    let mut path = "";
    let width = probes.iter().map(|probe| probe.symbol.chars().count()).max().unwrap_or(0).max(20);
    for probe in probes {
        if probe.path != path {
            path = &probe.path;
            writeln!(out, "  Probes in {}:", printable(path))?;
            writeln!(out, "    {:<width$} {:>5}  kind", "function", "traps")?;
        }
        function(probe, width, out)?;
    }
    for OwnSamples { path, probes, left_out } in own_samples {
        let probes = if probes.is_empty() { "none that can be used".to_owned() } else { probes.join(", ") };
        writeln!(out, "  Samples that an allocator tells of itself, in {}: {probes}", printable(path))?;
        for sentence in left_out {
            writeln!(out, "    {}", printable(sentence))?;
        }
    }
    if own_samples.iter().any(|own| !own.probes.is_empty()) {
        writeln!(
            out,
            "    a trap a sample, and none an allocation: `heaptrace record --trace native -p {pid}`"
        )?;
    }
    for Hidden { kind, path } in hidden {
        let (kind, path) = (printable(kind), printable(path));
        writeln!(out, "  not seen: {kind} in {path}, known by its messages, without names of its functions")?;
    }
    for sentence in left_out {
        writeln!(out, "  left out: {}", printable(sentence))?;
    }
    if let Some(reason) = reason {
        writeln!(out, "  cannot be traced: {}", printable(reason))?;
    }
    writeln!(out)
}

/// A function's probes, and why there are no better ones.
fn function(probe: &Probe, width: usize, out: Out<'_>) -> io::Result<()> {
    let traps = match probe.traps {
        [least, most] if least == most => least.to_string(),
        [least, most] => format!("{least}-{most}"),
    };
    writeln!(out, "    {:<width$} {traps:>5}  {}", printable(&probe.symbol), printable(&probe.why))?;
    for Site { offset: _, from_entry, reads, emulated, code } in
        probe.sites.iter().chain(&probe.verified_from)
    {
        let stepped = match (*emulated, *reads) {
            (_, "entry") => "; probed during the first calls only, to check the sites",
            (true, _) => "",
            (false, _) => "; single-stepped",
        };
        let sign = if *from_entry < 0 { '-' } else { '+' };
        let distance = from_entry.unsigned_abs();
        writeln!(
            out,
            "    {:<width$}        {sign}{distance:#x}: {} ({reads}{stepped})",
            "",
            printable(code)
        )?;
    }
    if probe.unseen_exits > 0 {
        writeln!(
            out,
            "    {:<width$}        {} exits by an unknown jump are not seen",
            "", probe.unseen_exits
        )?;
    }
    Ok(())
}

/// One file's functions by what becomes of them.
fn describe(allocator: &Allocator) -> String {
    let Allocator { kind, path, called, probed, functions } = allocator;
    let mut text = format!("{} ({kind}): ", printable(path));
    text += &if *called { format!("{probed} functions called, and probed") } else { "not called".to_owned() };
    let mut overridden: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut aliases, mut forwards, mut others) = (0, 0, 0);
    for function in functions {
        match (function.fate, &function.of) {
            (Fate::Probed, _) => {}
            (Fate::Alias, _) => aliases += 1,
            (Fate::Forwards, _) => forwards += 1,
            (Fate::Overridden, Some(by)) => *overridden.entry(by).or_default() += 1,
            (Fate::Overridden | Fate::NotCounted, _) => others += 1,
        }
    }
    for (count, what) in [
        (aliases, "other names of these"),
        (forwards, "that only call these"),
        (others, "that no program calls"),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    for (by, count) in overridden {
        text += &format!(", {count} overridden by {}", printable(by));
    }
    text
}
