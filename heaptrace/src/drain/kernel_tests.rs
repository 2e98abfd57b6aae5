//! What is made of processes that come and go, against a fake kernel.

use super::{ProfileBuilder, processes::Counted};
use crate::{
    fixtures::{fake_kernel::FakeKernel, profiles::start},
    model::{Chunk, Coverage, FrameId, Location, Profile},
    process::maps::{self, Mapping},
};
use heaptrace_common::sizes::CARRY;
use rustix::time::{ClockId, clock_gettime};

/// Both sides, and what a reader of the recording has.
struct Run {
    kernel: FakeKernel,
    builder: ProfileBuilder,
    /// Records that were found to be over at the last look.
    waiting: Vec<u32>,
}

impl Run {
    fn new(records: usize, sites: usize) -> Self {
        Self {
            kernel: FakeKernel::new(records, sites),
            builder: ProfileBuilder::default(),
            waiting: Vec::new(),
        }
    }

    fn counted(&self) -> Counted {
        Counted { from_ns: 0, until_ns: self.kernel.now_ns, probes: true }
    }

    /// As a session does once a second.
    fn drain(&mut self) {
        let Self { kernel, builder, .. } = self;
        builder.read_processes(kernel);
        let code = maps::parse(b"0-10000 r-xp 00000000 fe:01 9 /bin/program\n");
        // As the kernel tells of mappings, also of processes that have ended.
        let records = builder.table.records().map(|(record, ..)| record);
        let bare: Vec<u32> = records.filter(|record| !builder.images.contains_key(record)).collect();
        bare.into_iter().for_each(|record| builder.set_image(record, &code, &[]));
        builder.read_sites(kernel);
        builder.sweep(kernel, 1 << 20).expect("swept");
        self.retire();
    }

    /// As a session does more often, where tables fill.
    fn retire(&mut self) {
        let (records, counted) = (std::mem::take(&mut self.waiting), self.counted());
        self.builder.retire(&mut self.kernel, &records, counted).expect("retired");
        self.waiting = self.builder.retirable(|_, _| true);
    }

    fn chunk(&mut self) -> Chunk {
        self.builder.chunk(self.kernel.now_ns, self.counted(), Coverage::default())
    }

    /// The last one.
    fn finish(&mut self) -> Chunk {
        self.drain();
        self.builder.read_whole(&mut self.kernel);
        self.builder.judge_blocks(&self.kernel).expect("judged");
        self.builder.read_ages(&self.kernel, 0, self.kernel.now_ns).expect("read");
        self.chunk()
    }
}

/// A child that execs, allocates four blocks from three stacks and frees two; it may leave by exit only.
fn short_life(run: &mut Run, parent: u32, tgid: u32) -> bool {
    let Some(child) = run.kernel.fork(parent, tgid, tgid.is_multiple_of(2)) else { return false };
    run.kernel.allocate(child, 7, 0x1000, 24);
    run.kernel.exec_ends(child);
    let Some(image) = run.kernel.exec_begins(child) else { return false };
    for (stack, address, size) in [(1, 0x1000, 100), (2, 0x2000, 200), (3, 0x3000, 300), (3, 0x4000, 400)] {
        run.kernel.allocate(image, stack, address, size);
    }
    run.kernel.free(image, 0x2000);
    run.kernel.free(image, 0x3000);
    run.kernel.exit(image);
    true
}

const LIVE: u64 = 100 + 400;
const ALLOCATED: u64 = 24 + 100 + 200 + 300 + 400;

/// Children of one process, so many at one time between two looks.
fn storm(run: &mut Run, children: u32, between: u32, mut tell: impl FnMut(&mut Run)) {
    let parent = run.kernel.start(1).expect("room");
    run.kernel.allocate(parent, 9, 0x9000, 1);
    for n in 0..children {
        // PIDs come again.
        assert!(short_life(run, parent, 2 + n % 300), "{n}: no room");
        if n.is_multiple_of(between) {
            run.drain();
            tell(run);
        } else if n % between == between / 2 {
            run.builder.read_processes(&mut run.kernel);
            run.retire();
        }
    }
}

#[test]
fn a_storm_of_forks_is_exact_in_small_tables() {
    const CHILDREN: u32 = 3_000;
    let mut run = Run::new(100, 400);
    let mut profile = Profile::new(start());
    storm(&mut run, CHILDREN, 8, |run| {
        if run.kernel.now_ns.is_multiple_of(3) {
            profile.fold(run.chunk()).expect("a chunk");
        }
    });
    profile.fold(run.finish()).expect("the last chunk");
    assert_eq!((run.kernel.lost_records, run.kernel.lost_sites), (0, 0));
    assert_eq!(profile.processes.len(), 1 + CHILDREN as usize);
    for process in &profile.processes[1..] {
        assert!(process.exited && process.parent_pid == Some(1));
        let totals = &process.totals;
        assert_eq!((totals.alloc_bytes, totals.alloc_count), (ALLOCATED, 5));
        assert_eq!((totals.live_bytes(), totals.live_count(), totals.released_bytes), (LIVE, 2, 24));
    }
    // By site, too.
    let live: u64 = profile.sites.iter().map(|site| site.totals.live_bytes()).sum();
    assert_eq!(live, u64::from(CHILDREN) * LIVE + 1);
    let aged = profile.sites.iter().filter(|site| site.oldest_age_ns.is_some()).count();
    assert_eq!(aged, 1 + 2 * CHILDREN as usize);
    // Stacks are processes' in common.
    assert_eq!(profile.stacks.len(), 5);
}

#[test]
fn sites_of_one_name_and_number_are_one_threads() {
    let mut run = Run::new(10, 10);
    let record = run.kernel.start(7).expect("room");
    let name = |text: &str| std::array::from_fn(|at| text.as_bytes().get(at).copied().unwrap_or_default());
    for (stack, tid, thread) in
        [(1, 8, "worker"), (2, 8, "worker"), (3, 8, "a name of 15 b."), (4, 9, "worker")]
    {
        run.kernel.allocate(record, stack, stack << 12, 10);
        run.kernel.set_thread(record, stack, tid, name(thread));
    }
    run.kernel.allocate(record, 5, 5 << 12, 10);
    let mut profile = Profile::new(start());
    profile.fold(run.finish()).expect("a chunk");
    let threads: Vec<_> = profile.threads.iter().map(|of| (of.tid, of.name.as_str())).collect();
    assert_eq!(threads, [(8, "worker"), (8, "a name of 15 b."), (9, "worker")]);
    let of: Vec<_> = profile.sites.iter().map(|site| site.thread.map(|id| id.0)).collect();
    assert_eq!(of, [Some(0), Some(0), Some(1), Some(2), None]);
}

#[test]
fn an_exec_between_two_reads_ends_nothing() {
    let mut run = Run::new(10, 10);
    let record = run.kernel.start(7).expect("room");
    run.drain();
    run.kernel.exec_ends(record);
    run.builder.read_processes(&mut run.kernel);
    assert_eq!(run.builder.running().count(), 0);
    assert!(run.builder.is_within_exec(run.kernel.now_ns));
    let new = run.kernel.exec_begins(record).expect("room");
    run.builder.read_processes(&mut run.kernel);
    assert_eq!(run.builder.running().collect::<Vec<_>>(), [(new, 7)]);
    assert!(!run.builder.is_within_exec(run.kernel.now_ns));
}

fn code(text: &str) -> Vec<Mapping> {
    maps::parse(text.as_bytes())
}

#[test]
fn a_process_is_called_by_the_program_of_its_last_exec() {
    let mut run = Run::new(10, 10);
    let shell = run.kernel.start(7).expect("room");
    run.builder.read_processes(&mut run.kernel);
    let child = run.kernel.fork(shell, 8, false).expect("room");
    run.kernel.exec_ends(child);
    let image = run.kernel.exec_begins(child).expect("room");
    run.builder.read_processes(&mut run.kernel);
    // What the parent had mapped before the fork, and its child with it, is told when the child has become another.
    let told = [
        (shell, "1000-2000 r-xp 0 fe:01 1 /bin/sh\n"),
        (child, "1000-2000 r-xp 0 fe:01 1 /bin/sh\n"),
        (image, "1000-2000 r-xp 0 fe:01 2 /bin/true\n"),
        (image, "5000-6000 r-xp 0 fe:01 3 /lib/libc.so\n"),
    ];
    for (record, text) in told {
        run.builder.add_code(&mut run.kernel, record, &code(text)[0], None);
    }
    let mut exe = |record| run.builder.process_mut(record).map(|process| process.exe.clone());
    assert_eq!((exe(shell).as_deref(), exe(image).as_deref()), (Some("/bin/sh"), Some("/bin/true")));
}

/// One process, known to have this code, and its record.
fn with_code(code: &[Mapping]) -> (Run, u32) {
    let mut run = Run::new(10, 10);
    let record = run.kernel.start(7).expect("room");
    run.builder.read_processes(&mut run.kernel);
    run.builder.set_image(record, code, &[]);
    (run, record)
}

/// The modules of each site's frames.
fn modules(profile: &Profile) -> Vec<Vec<&str>> {
    let module = |frame: &FrameId| match &profile.locations[profile.frames[frame.index()].location.index()] {
        Location::InModule { module, .. } => profile.modules[module.index()].path.as_str(),
        _ => "",
    };
    let frames = profile.sites.iter().map(|site| &profile.stacks[site.stack.index()].frames);
    frames.map(|frames| frames.iter().map(module).collect()).collect()
}

/// A library is opened where another was, and then a second one, which calls it, between two looks at what was mapped.
#[test]
fn a_stack_is_named_by_the_code_that_it_was_taken_in() {
    let (mut run, record) = with_code(&code("1000-2000 r-xp 0 fe:01 1 /first.so\n"));
    run.kernel.set_frames(2, vec![0x1800, 0x5800]);
    run.kernel.set_frames(3, vec![0x1900, 0x9999]);
    run.kernel.allocate(record, 0x1800, 0xa000, 1);
    run.kernel.allocate(record, 3, 0xc000, 1);
    for _ in 0..2 {
        // The last stack is partly in code of which nobody tells.
        run.builder.read_sites(&mut run.kernel);
    }
    run.kernel.allocate(record, 2, 0xb000, 1);
    run.builder.read_sites(&mut run.kernel);
    for text in ["1000-2000 r-xp 0 fe:01 2 /second.so\n", "5000-6000 r-xp 0 fe:01 3 /calls.so\n"] {
        run.builder.add_code(&mut run.kernel, record, &code(text)[0], None);
    }
    let mut profile = Profile::new(start());
    profile.fold(run.finish()).expect("a chunk");
    let mut modules = modules(&profile);
    modules.sort();
    assert_eq!(modules, [vec!["/first.so"], vec!["/first.so", ""], vec!["/second.so", "/calls.so"]]);
}

/// What /proc showed of a library before word came of its mapping replaces nothing.
#[test]
fn stacks_in_code_that_is_yet_to_be_told_of_wait() {
    let known = code("1000-2000 r-xp 0 fe:01 1 /libc.so\n");
    let (mut run, record) = with_code(&known);
    run.kernel.set_frames(2, vec![0x1800, 0x5800]);
    run.kernel.allocate(record, 2, 0xa000, 1);
    let plugin = code("5000-6000 r-xp 0 fe:01 3 /plugin.so\n");
    for mapping in known.iter().chain(&plugin) {
        run.builder.add_code(&mut run.kernel, record, mapping, None);
    }
    let mut profile = Profile::new(start());
    profile.fold(run.finish()).expect("a chunk");
    assert_eq!(modules(&profile), [["/libc.so", "/plugin.so"]]);
}

#[test]
fn what_finds_no_room_is_in_no_total_and_others_are_as_they_were() {
    let mut run = Run::new(4, 4);
    let parent = run.kernel.start(1).expect("room");
    run.kernel.allocate(parent, 1, 0x1000, 10);
    for tgid in 2..5 {
        let child = run.kernel.fork(parent, tgid, false).expect("room");
        run.kernel.allocate(child, 1, 0x1000, 10);
        run.kernel.allocate(child, 2, 0x2000, 20);
    }
    assert_eq!(run.kernel.fork(parent, 5, false), None);
    let mut profile = Profile::new(start());
    profile.fold(run.finish()).expect("a chunk");
    assert_eq!((run.kernel.lost_records, run.kernel.lost_sites), (1, 3));
    let allocated: Vec<u64> = profile.processes.iter().map(|process| process.totals.alloc_bytes).collect();
    assert_eq!(allocated, [10, 30, 10, 0]);
}

#[test]
fn sizes_that_carried_are_their_sites_and_not_the_next_ones() {
    const CALLS: u64 = 3 * CARRY + 5;
    let mut run = Run::new(4, 4);
    let mut profile = Profile::new(start());
    for tgid in 1..5 {
        let record = run.kernel.start(tgid).expect("room");
        for n in 0..CALLS {
            // Neighbours: one carries, and the other does not.
            run.kernel.allocate(record, 1, 0x1000, if n % 100 == 0 { 9 } else { 5 });
            run.kernel.free(record, 0x1000);
            if n == CALLS / 2 {
                run.drain();
                profile.fold(run.chunk()).expect("a chunk");
            }
        }
        run.kernel.exit(record);
        (0..3).for_each(|_| run.drain());
    }
    profile.fold(run.finish()).expect("the last chunk");
    assert_eq!((run.kernel.held(), run.builder.unclassed_blocks(true)), ((0, 0, 0), 0));
    let nines = CALLS.div_ceil(100);
    assert_eq!(profile.sites.len(), 4);
    for site in &profile.sites {
        assert_eq!(site.sizes.0, [0, 0, 0, CALLS - nines, nines]);
    }
}

#[test]
fn one_that_runs_in_its_parents_memory_keeps_that() {
    let mut run = Run::new(10, 10);
    let parent = run.kernel.start(1).expect("room");
    let child = run.kernel.fork(parent, 2, true).expect("room");
    run.kernel.exit(parent);
    for _ in 0..3 {
        // The fake kernel asserts that it is there.
        run.drain();
    }
    assert_eq!(run.kernel.held().0, 2);
    run.kernel.exec_ends(child);
    run.kernel.exec_begins(child).expect("room");
    for _ in 0..3 {
        run.drain();
    }
    assert_eq!(run.kernel.held().0, 1);
}

#[test]
fn what_was_let_go_of_is_retired_and_lives_on_nowhere() {
    let mut run = Run::new(10, 10);
    let mut profile = Profile::new(start());
    let record = run.kernel.start(7).expect("room");
    run.kernel.allocate(record, 1, 0x1000, 10);
    profile.fold(run.finish()).expect("a chunk");
    run.kernel.leave_out(record);
    run.drain();
    profile.fold(run.chunk()).expect("a chunk");
    let life = profile.processes[0].life_ns;
    for _ in 0..3 {
        run.kernel.now_ns += 1_000_000;
        run.drain();
        profile.fold(run.chunk()).expect("a chunk");
    }
    assert_eq!((run.kernel.held(), run.builder.kept()), ((0, 0, 0), 0));
    let process = &profile.processes[0];
    assert!(process.over && !process.exited);
    assert_eq!((process.life_ns, process.totals.live_bytes()), (life, 10));
}

/// As `record` runs for months: what was told is kept by nobody. Prints figures at every tenth.
fn months(children: u32) {
    let mut run = Run::new(1 << 14, 1 << 17);
    let (mut told, mut sites, mut live, mut released) = (0_usize, 0_usize, 0_u64, 0_u64);
    let mut sum = |chunk: Chunk| {
        for (_, process) in chunk.processes.iter().filter(|(_, process)| process.exited) {
            told += 1;
            live += process.totals.live_bytes();
            released += process.totals.released_bytes;
        }
        // Some are told again, with their ages.
        sites = chunk.sites.iter().map(|(id, _)| id.index() + 1).fold(sites, usize::max);
    };
    // Of this thread: others may be at work.
    let cpu_s = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let (mut looks, mut next, mut before) = (0_u32, children / 10, cpu_s());
    let mut most = (0, 0, 0);
    let mut done = 0;
    storm(&mut run, children, 1_000, |run| {
        (looks, done) = (looks + 1, done + 1_000);
        if looks.is_multiple_of(5) {
            sum(run.chunk());
        }
        let (records, of_sites, blocks) = run.kernel.held();
        most = (most.0.max(records), most.1.max(of_sites), most.2.max(blocks));
        if done >= next {
            next += children / 10;
            println!(
                "{done}: {:.1} s of CPU time, tables {:?}, {} kept",
                cpu_s() - before,
                most,
                run.builder.kept()
            );
            (before, most) = (cpu_s(), (0, 0, 0));
        }
        assert!(run.builder.kept() < 100_000, "{} are kept", run.builder.kept());
    });
    sum(run.finish());
    assert_eq!((run.kernel.lost_records, run.kernel.lost_sites), (0, 0));
    let children = u64::from(children);
    assert_eq!((live, released), (children * LIVE, children * 24));
    assert_eq!((told as u64, sites as u64), (children, children * 4 + 1));
}

#[test]
fn months_of_short_processes_are_exact_and_leave_nothing_behind() {
    months(20_000);
}

#[test]
#[ignore = "takes minutes: for a release build"]
fn ten_million_short_processes() {
    months(10_000_000);
}
