//! Profiles made by hand, for tests. Sizes are odd and unique, so that a number in a report names its site.

use crate::model::*;
use heaptrace_common::{counter::Counter, function::Function, stack::StackEnd};
use std::collections::BTreeMap;

pub(crate) fn start() -> Start {
    Start {
        heaptrace: "0.1.0".into(),
        host: Host { kernel: "6.1.0-test".into(), arch: "x86_64".into() },
        // 2026-01-01T00:00:00Z
        started_ns: 1_767_225_600_000_000_000,
        mode: Mode::Exact,
    }
}

/// A profile of nothing.
pub(crate) fn empty() -> Profile {
    let mut profile = Profile::new(start());
    profile.duration_ns = 5_000_000_000;
    profile.coverage.finished = true;
    profile
}

fn symbol(name: &str, file: &str, line: u32, inlined: bool) -> Symbol {
    Symbol { name: name.into(), file: Some(file.into()), line: Some(line), inlined }
}

fn totals(alloc: (u64, u64), free: (u64, u64), released: (u64, u64)) -> Totals {
    Totals {
        alloc_bytes: alloc.0,
        alloc_count: alloc.1,
        free_bytes: free.0,
        free_count: free.1,
        released_bytes: released.0,
        released_count: released.1,
        ..Totals::default()
    }
}

/// Two processes; symbols with and without lines, inlined ones, places without any; truncated stacks; a site
/// that exec released; a full site table; a process name with a semicolon and a blank.
pub(crate) fn full() -> Profile {
    let mut profile = empty();
    let module = |path: &str, id: Option<&[u8]>| Module {
        path: path.into(),
        build_id: id.map(|bytes| BuildId(bytes.into())),
    };
    profile.modules = vec![
        module("/usr/bin/app", Some(&[0xab, 0x12])),
        module("/usr/lib/libfoo.so.1", None),
        module("/usr/lib/libc.so.6", Some(&[0xc0, 0xff, 0xee])),
    ];
    let place = |module, offset| Location::InModule { module: ModuleId(module), offset };
    profile.locations = vec![
        place(0, 0x1101), // 0 grow inlined into parse
        place(0, 0x1202), // 1 main
        place(2, 0x2303), // 2 __libc_start_main
        place(1, 0x1234), // 3 nothing known
        place(0, 0x1405), // 4 load
        Location::Anonymous { process: ProcessId(0), address: 0x7f00_0000_1000 }, // 5
        Location::Unmapped { process: ProcessId(1), address: 0xdead }, // 6
        place(0, 0x1107), // 7 grow, another line
        place(0, 0x1508), // 8 operator with ;
    ];
    profile.symbols = vec![
        vec![
            symbol("buffer::grow", "/src/buffer.rs", 31, true),
            symbol("buffer::parse", "/src/parse.rs", 77, false),
        ],
        vec![symbol("main", "/src/main.rs", 10, false)],
        vec![Symbol { name: "__libc_start_main".into(), file: None, line: None, inlined: false }],
        vec![],
        vec![symbol("load", "/src/load.rs", 5, false)],
        vec![],
        vec![],
        vec![
            symbol("buffer::grow", "/src/buffer.rs", 35, true),
            symbol("buffer::parse", "/src/parse.rs", 78, false),
        ],
        vec![Symbol { name: "odd;name with blanks".into(), file: None, line: None, inlined: false }],
    ];
    profile.frames = (0..9)
        .map(|n| Frame { address: 0x5500_0000_0000 + 0x1000 * u64::from(n), location: LocationId(n) })
        .collect();
    let stack = |frames: &[u32], end| Stack { frames: frames.iter().map(|f| FrameId(*f)).collect(), end };
    profile.stacks = vec![
        stack(&[0, 1, 2], StackEnd::Complete),
        stack(&[0, 4, 1, 2], StackEnd::Complete),
        stack(&[7, 1, 2], StackEnd::Complete),
        stack(&[3, 1], StackEnd::NoUnwindInfo),
        stack(&[5], StackEnd::Depth),
        stack(&[6], StackEnd::Complete),
        stack(&[8, 1, 2], StackEnd::Complete),
        stack(&[], StackEnd::NotWalked),
        stack(&[4], StackEnd::Complete),
    ];
    let site = |process, stack, function, totals: Totals, age: Option<u64>, class: usize| {
        let mut sizes = vec![0; class + 1];
        sizes[class] = totals.alloc_count;
        Site {
            process: ProcessId(process),
            stack: StackId(stack),
            function,
            totals,
            oldest_age_ns: age,
            sizes: SizeHistogram(sizes),
        }
    };
    use Function::{Calloc, Malloc, OperatorNew, Realloc};
    profile.sites = vec![
        site(0, 0, Malloc, totals((900_001, 11), (100_001, 1), (0, 0)), Some(1_500_000_000), 17),
        site(0, 1, Malloc, totals((50_003, 7), (3, 1), (0, 0)), Some(250_000_000), 13),
        site(0, 2, Realloc, totals((20_005, 5), (0, 0), (0, 0)), Some(4_000_000_000), 12),
        site(0, 3, Calloc, totals((77_777, 3), (0, 0), (0, 0)), Some(1_000), 15),
        site(0, 4, Malloc, totals((33, 1), (0, 0), (0, 0)), Some(1_000), 6),
        site(1, 5, Malloc, totals((1_111, 1), (0, 0), (0, 0)), Some(1_000), 11),
        site(1, 6, OperatorNew, totals((5_557, 3), (0, 0), (5_557, 3)), None, 11),
        site(1, 7, Malloc, totals((13, 1), (0, 0), (0, 0)), Some(1_000), 4),
        site(1, 8, Malloc, totals((0, 2), (0, 0), (0, 0)), Some(1_000), 0),
        site(0, 8, Malloc, totals((4_099, 4), (3_002, 3), (0, 0)), None, 11),
    ];
    let unmapped = &mut profile.sites[9].totals;
    (unmapped.gone_bytes, unmapped.gone_count) = (1_097, 1);
    profile.growth = vec![
        site(0, 1, Function::Brk, totals((1_081_344, 8), (0, 0), (0, 0)), None, 0),
        site(1, 5, Function::Mmap, totals((135_168, 1), (0, 0), (0, 0)), None, 0),
        site(0, 2, Function::PageFault, totals((53_248, 13), (0, 0), (0, 0)), None, 0),
    ];
    let mut of = [Totals::default(); 2];
    for site in &profile.sites {
        of[site.process.index()].add(&site.totals);
    }
    // Two blocks whose site found no room.
    of[1].add(&totals((2_222, 2), (0, 0), (0, 0)));
    profile.processes = vec![
        Process {
            pid: 42,
            parent_pid: Some(1),
            comm: "app".into(),
            exe: "/usr/bin/app".into(),
            allocators: vec![AllocatorInfo { kind: "glibc".into(), path: "/usr/lib/libc.so.6".into() }],
            totals: of[0],
            peak_live_bytes: 999_999,
            failed_count: 1,
            unknown_frees: 4,
            brk_bytes: -4096,
            mmap_bytes: 8192,
            rss_bytes: 4_096_000,
            ..Process::default()
        },
        Process {
            pid: 43,
            parent_pid: Some(42),
            comm: "odd; name".into(),
            exe: "/opt/odd name".into(),
            totals: of[1],
            peak_live_bytes: 8_888,
            missed_frees: 1,
            inherited_bytes: 12_345,
            inherited_count: 9,
            inherited_free_count: 2,
            lost_bytes: 640,
            lost_count: 10,
            exited: true,
            attach_gap_ns: Some(1_250_000),
            life_ns: 5_000_000,
            attached_ns: 3_750_000,
            ..Process::default()
        },
    ];
    profile.residency = residency();
    profile.coverage = Coverage {
        events: 1_234,
        counts: Counts::new(|counter| match counter {
            Counter::LiveMapFull => 10,
            Counter::SiteTableFull => 2,
            Counter::MissedReturn => 3,
            Counter::UnpairedReturn => 1,
            Counter::Nested => 21,
            _ => 0,
        }),
        unknown_frees: 4,
        untraceable: vec![Untraceable {
            pid: 99,
            comm: "sandbox".into(),
            reason: "no allocator was found in it".into(),
        }],
        size_filter: None,
        finished: false,
        notes: [Note::PerfEventProbes { filter_by_thread: false }].into_iter().collect(),
    };
    profile
}

/// A process whose heap could be read, and one whose could not, measured a while before it ended.
fn residency() -> BTreeMap<ProcessId, Residency> {
    let extent = |virtual_bytes, resident_bytes| Extent { virtual_bytes, resident_bytes };
    let mappings = Mappings {
        anonymous: extent(12_582_912, 3_145_728),
        main_stack: extent(135_168, 12_288),
        thread_stacks: extent(8_388_608, 16_384),
        files: extent(9_437_184, 819_200),
        copied: extent(0, 94_208),
        shared: Extent::default(),
        special: extent(24_576, 8_192),
    };
    let heap = GlibcHeap {
        arenas: 2,
        in_use: extent(2_101_248, 2_093_056),
        mmapped: extent(8_392_704, 4_096),
        mmapped_count: 1,
        mmapped_found: true,
        free: extent(500_080, 499_712),
        top: extent(132_000, 4_096),
        overhead: extent(2_224, 2_224),
        consistent: true,
    };
    let blocks = TracedBlocks {
        requested: extent(820_005, 820_005),
        slack: extent(1_005, 1_005),
        count: 43,
        exact: true,
    };
    let traced = Traced {
        live_bytes: 820_005,
        live_count: 43,
        unknown_frees: 4,
        blocks: Some(blocks),
        ..Traced::default()
    };
    let app = Residency {
        at_ns: 4_900_000_000,
        took_ns: 2_500_000,
        mappings,
        swap_bytes: 8_192,
        heap: Heap::Glibc(heap),
        traced,
    };
    let why = "how jemalloc lays out its heap is not known here";
    let odd = Residency {
        at_ns: 3_000_000_000,
        mappings: Mappings { shared: extent(4_194_304, 1_048_576), ..mappings },
        heap: Heap::Unreadable { allocator: "jemalloc".into(), why: why.into() },
        traced: Traced { live_bytes: 777_777, live_count: 9, inherited_count: 9, ..Traced::default() },
        swap_bytes: 0,
        ..app.clone()
    };
    [(ProcessId(0), app), (ProcessId(1), odd)].into()
}

/// `stacks` stacks of `depth` frames that fork and join, in one process.
pub(crate) fn large(stacks: u32, depth: u32) -> Profile {
    let mut profile = empty();
    profile.modules = vec![Module { path: "/usr/bin/large".into(), build_id: None }];
    let functions = 5_000;
    for n in 0..functions {
        let module = ModuleId(0);
        profile.locations.push(Location::InModule { module, offset: 0x1000 + 16 * u64::from(n) });
        profile.symbols.push(vec![symbol(&format!("function_{n}"), &format!("/src/{n}.c"), n, false)]);
        profile.frames.push(Frame { address: u64::from(n), location: LocationId(n) });
    }
    let mut seed = 1_u32;
    let mut random = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    };
    for n in 0..stacks {
        // Innermost functions are few, callers many, the outermost is one.
        let frames = (0..depth)
            .map(|level| match level {
                0 => random() % 50,
                _ if level + 1 == depth => 4_999,
                _ => random() % functions,
            })
            .map(FrameId)
            .collect();
        profile.stacks.push(Stack { frames, end: StackEnd::Complete });
        let totals = totals((1_001 + u64::from(n), 3), (0, 0), (0, 0));
        profile.sites.push(Site {
            process: ProcessId(0),
            stack: StackId(n),
            function: Function::Malloc,
            totals,
            oldest_age_ns: None,
            sizes: SizeHistogram::default(),
        });
    }
    let mut process = Process { pid: 7, comm: "large".into(), ..Process::default() };
    profile.sites.iter().for_each(|site| process.totals.add(&site.totals));
    profile.coverage.events = process.totals.alloc_count;
    profile.processes.push(process);
    profile
}

/// `profile` as one chunk.
pub(crate) fn chunk(profile: &Profile) -> Chunk {
    let profile = profile.clone();
    Chunk {
        duration_ns: profile.duration_ns,
        passed_ns: 0,
        coverage: profile.coverage,
        processes: (0..).map(ProcessId).zip(profile.processes).collect(),
        modules: profile.modules,
        locations: profile.locations,
        symbols: (0..).map(LocationId).zip(profile.symbols).collect(),
        frames: profile.frames,
        stacks: profile.stacks,
        sites: (0..).map(SiteId).zip(profile.sites).collect(),
        growth: (0..).map(GrowthId).zip(profile.growth).collect(),
    }
}
