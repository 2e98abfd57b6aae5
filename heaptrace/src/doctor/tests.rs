//! Golden tests of both forms of a diagnosis: `INSTA_UPDATE=always cargo test` writes them anew.

use super::diagnosis::*;
use insta::assert_snapshot;

fn feature(name: &'static str, state: State, detail: Option<&str>) -> Feature {
    Feature {
        name,
        title: "title",
        state,
        required: name == "programs",
        used_for: "something",
        otherwise: "something else",
        detail: detail.map(str::to_owned),
    }
}

fn function(symbol: &str, fate: Fate, of: Option<&str>) -> Function {
    Function { symbol: symbol.into(), fate, of: of.map(str::to_owned) }
}

fn process() -> Process {
    let site = Site {
        offset: 0x1057,
        from_entry: 0x57,
        reads: "whole call",
        emulated: true,
        code: "jne 98C20h".into(),
    };
    let probe = Probe {
        symbol: "malloc".into(),
        function: "malloc",
        path: "/lib/libjemalloc.so.2".into(),
        entry: 0x1000,
        offset: 0x1057,
        site: 0x57,
        emulated: true,
        pushed: 40,
        returns: false,
        kind: "stash",
        traps: [1, 2],
        sites: vec![
            site.clone(),
            Site { from_entry: 0x188, reads: "arguments", ..site.clone() },
            Site { from_entry: 0x19c, reads: "result", emulated: false, ..site.clone() },
        ],
        verified_from: Some(Site { offset: 0x1012, from_entry: 0x12, reads: "entry", ..site.clone() }),
        unseen_exits: 1,
        why: "one trap on most paths; a computed jump at 0x1200".into(),
    };
    let free = Probe {
        symbol: "free".into(),
        function: "free",
        entry: 0x2000,
        offset: 0x2009,
        site: 9,
        pushed: 8,
        kind: "free",
        traps: [1, 1],
        sites: vec![Site { offset: 0x2009, from_entry: 9, reads: "free", code: "push %rbp".into(), ..site }],
        verified_from: None,
        unseen_exits: 0,
        why: "where the block is given up".into(),
        ..probe.clone()
    };
    Process {
        pid: 42,
        own_samples: vec![OwnSamples {
            path: "/usr/bin/app".into(),
            probes: vec!["otel_memory:alloc".into()],
            left_out: vec!["it tells of no frees".into()],
        }],
        comm: Some("app\u{1b}[2J".into()),
        exe: Some("/usr/bin/app".into()),
        threads: Some(2),
        uid: Some(1000),
        checks: vec![
            Check { name: "seccomp", verdict: Verdict::Fine, detail: "off".into() },
            Check { name: "shadow_stack", verdict: Verdict::Note, detail: "active".into() },
        ],
        allocators: vec![
            Allocator {
                kind: "jemalloc".into(),
                path: "/lib/libjemalloc.so.2".into(),
                called: true,
                probed: 2,
                functions: vec![
                    function("malloc", Fate::Probed, None),
                    function("free", Fate::Probed, None),
                    function("cfree", Fate::Alias, Some("free")),
                    function("_ZdlPv", Fate::Forwards, Some("free")),
                ],
            },
            Allocator {
                kind: "glibc".into(),
                path: "/lib/libc.so.6".into(),
                called: false,
                probed: 0,
                functions: vec![
                    function("malloc", Fate::Overridden, Some("/lib/libjemalloc.so.2")),
                    function("free", Fate::Overridden, Some("/lib/libjemalloc.so.2")),
                    function("__free", Fate::NotCounted, None),
                ],
            },
        ],
        probes: vec![probe, free],
        hidden: Vec::new(),
        left_out: vec!["failed to open /x: denied".into()],
        can_trace: true,
        reason: None,
    }
}

fn diagnosis() -> Diagnosis {
    Diagnosis {
        schema: SCHEMA,
        heaptrace: "0.1.0".into(),
        host: Host { kernel: "6.1.0".into(), arch: "x86_64".into() },
        attach: Some(Attach::PerfEvent),
        features: vec![
            feature("programs", State::Works, None),
            feature("uprobe_multi", State::Missing, Some("Invalid argument (os error 22)")),
            feature("syscall_tracepoints", State::Unknown, Some("not permitted")),
        ],
        privileges: Privileges {
            uid: 1000,
            effective_uid: 1000,
            user_namespace: false,
            capabilities: vec![
                Capability {
                    name: "CAP_BPF".into(),
                    held: true,
                    required: true,
                    used_for: "loading",
                    otherwise: "nothing",
                },
                Capability {
                    name: "CAP_PERFMON".into(),
                    held: false,
                    required: true,
                    used_for: "probing",
                    otherwise: "nothing",
                },
            ],
            missing: vec!["CAP_PERFMON".into()],
            grants: vec![Grant { how: "sudo", command: "sudo heaptrace ...".into() }],
            settings: vec![Setting {
                name: "kernel.perf_event_paranoid",
                value: None,
                matters: false,
                meaning: "does not matter",
            }],
        },
        tracefs: TracefsFound { mounted: false, path: None, usable: false, advice: Some("mount it".into()) },
        cost: Cost {
            measured_in: "heaptrace's own process",
            attach: Some(Attach::PerfEvent),
            calls_per_round: 1000,
            rounds: 8,
            emulated_ns: Some(650.4),
            single_stepped_ns: Some(10_000.0),
            error: None,
        },
        process: Some(process()),
        can_trace: true,
        reason: None,
        modes: Some(Modes {
            measured_in: "a child of heaptrace's",
            prices: [("growth", false, 20.4), ("sampled", true, 1_300.0), ("exact", false, 2_000.6)]
                .map(|(mode, frees, pair_ns)| ModePrice { mode, frees, alone_ns: 20.0, pair_ns })
                .into(),
            error: None,
        }),
    }
}

/// Where nothing works, and nobody may ask.
fn refused() -> Diagnosis {
    let cost = Cost {
        attach: None,
        rounds: 0,
        emulated_ns: None,
        single_stepped_ns: None,
        error: Some("probes cannot be placed here".into()),
        ..diagnosis().cost
    };
    let reason = Some("the kernel refused".to_owned());
    let process = Process {
        pid: 42,
        can_trace: false,
        reason: Some("process 42 is gone".into()),
        ..Process::default()
    };
    let modes = Modes {
        measured_in: "a child of heaptrace's",
        prices: Vec::new(),
        error: Some("the kernel refused".into()),
    };
    Diagnosis {
        attach: None,
        cost,
        process: Some(process),
        can_trace: false,
        reason,
        modes: Some(modes),
        ..diagnosis()
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut out = Vec::new();
    diagnosis.write_text(&mut out).expect("written");
    String::from_utf8(out).expect("text")
}

#[test]
fn text_says_what_works_and_ends_with_the_verdict() {
    assert_snapshot!("text", text(&diagnosis()));
    assert_snapshot!("text_refused", text(&refused()));
}

#[test]
fn json() {
    let mut out = Vec::new();
    diagnosis().write_json(&mut out).expect("written");
    assert_snapshot!("json", String::from_utf8(out).expect("text"));
}
