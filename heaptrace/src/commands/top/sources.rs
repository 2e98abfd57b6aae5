//! Where the numbers come from: `/proc`, an engine for growth, and one for the processes that are traced.

use super::{
    args::TopArgs,
    background::Background,
    detail,
    feed::Feed,
    job::{Done, Job},
    memory::Memory,
    options::{growth_options, traced_options},
    processes::Processes,
};
use crate::{
    attribution::Attribution,
    commands::outside::{Hurry, clock},
    model::{AllocatorInfo, Mode, Process, ProcessId, StackId},
    report::{self, StackNames},
    session::{SessionOptions, monotonic_ns},
    target::Target,
    top::{Detail, Header, Mapped, ProbeCost, Sample, SiteOrder, Traced},
    units::thousands,
};
use std::{collections::HashMap, io, time::Instant};

/// See the module.
pub struct Sources {
    target: Target,
    processes: Processes,
    growth: Option<Feed>,
    no_growth: Option<String>,
    /// What a system call takes us: before growth was traced, and the least since.
    syscalls_ns: Option<(f64, f64)>,
    traced: Option<Feed>,
    /// How the traced session is made.
    options: SessionOptions,
    /// Every process is traced.
    all: bool,
    /// Who was named is traced from the start.
    from_start: bool,
    sessions: u64,
    /// While something is traced: children want their probes at once.
    hurry: Option<Hurry>,
    /// `None` while it is being found out.
    costs: HashMap<Vec<AllocatorInfo>, Option<ProbeCost>>,
    /// Losses of sessions that have ended, and what could not be done.
    lasting: Vec<String>,
    background: Background,
    /// Of what is not traced, where somebody looks.
    memory: Memory,
    looks: bool,
    frames: Attribution,
}

impl Sources {
    /// Begins, with what was asked for from the start. Must be called within the runtime.
    pub fn start(target: Target, args: &TopArgs) -> anyhow::Result<Self> {
        let options = traced_options(&target, args)?;
        let mut sources = Self {
            processes: Processes::new(),
            growth: None,
            no_growth: None,
            syscalls_ns: None,
            traced: None,
            options,
            all: args.target.all,
            from_start: args.traces_from_start(),
            sessions: 0,
            hurry: None,
            costs: HashMap::new(),
            lasting: Vec::new(),
            background: Background::start(),
            memory: Memory::new(),
            looks: false,
            frames: args.frames.attribution()?,
            target,
        };
        // Who asked for it by name is told if it cannot be.
        if sources.from_start {
            let number = sources.next_number();
            let mut feed = Feed::new(&sources.options, number)?;
            feed.engine.add_running(&sources.target)?;
            sources.traced = Some(feed);
            sources.hurry = Some(Hurry::begin());
        }
        if args.no_growth {
            sources.no_growth = Some("--no-growth".into());
        } else if let Err(error) = sources.start_growth(args) {
            // All on one line: the details are the doctor's.
            let why = format!("{error:#}");
            sources.no_growth = Some(why.lines().next().unwrap_or_default().to_owned());
        }
        Ok(sources)
    }

    fn next_number(&mut self) -> u64 {
        self.sessions += 1;
        self.sessions
    }

    fn start_growth(&mut self, args: &TopArgs) -> anyhow::Result<()> {
        let bare = (0..10).map(|_| time_syscalls()).fold(f64::MAX, f64::min);
        let mut feed = Feed::new(&growth_options(&self.target, args), self.next_number())?;
        if let Some(why) = feed.engine.session().growth_unavailable() {
            anyhow::bail!("{why}");
        }
        self.syscalls_ns = Some((bare, f64::MAX));
        feed.engine.add_running(&self.target)?;
        self.growth = Some(feed);
        Ok(())
    }

    /// Waits for news: deals with those from the kernel, and gives what the background has done.
    pub async fn news(&mut self) -> io::Result<Option<Done>> {
        async fn of(feed: &mut Option<Feed>) -> io::Result<()> {
            match feed {
                Some(feed) => feed.keep_up().await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            kept = of(&mut self.traced) => kept.map(|()| None),
            kept = of(&mut self.growth) => kept.map(|()| None),
            done = self.background.done() => Ok(Some(done)),
        }
    }

    /// Looks at everything now.
    pub fn refresh(&mut self, header: &mut Header) -> anyhow::Result<Sample> {
        // All that were traced have exited, and nobody joins them by himself.
        if self.options.members.is_none() {
            self.drop_if_idle();
        }
        let read = self.processes.read(&self.target)?;
        let at_ns = monotonic_ns();
        for feed in [&mut self.growth, &mut self.traced].into_iter().flatten() {
            feed.refresh(at_ns)?;
        }
        let sample = Sample {
            at_ns,
            memory: read.memory,
            mapped: self.mapped(),
            traced: self.traced_now(),
            seen: read.seen,
        };
        header.clock = clock();
        header.memory = read.memory;
        header.processes = sample.seen.len();
        header.kernel_threads = read.kernel_threads;
        header.sources.no_growth.clone_from(&self.no_growth);
        // The least so far: in the others we were interrupted, or somebody else traced system calls, too.
        header.sources.syscall_ns =
            self.syscalls_ns.as_mut().filter(|_| self.growth.is_some()).map(|(bare, least)| {
                *least = least.min(time_syscalls());
                (*least - *bare).max(0.0)
            });
        header.sources.growth_bytes = self.growth.as_ref().map_or(0, |feed| feed.table_bytes);
        header.sources.all = self.all;
        header.sources.how = how(self.options.mode);
        header.sources.mode = self.options.mode.name();
        header.sources.live_is_bound = self.options.mode.ends_unseen();
        header.sources.traced = self.traced.as_ref().map_or(0, |feed| feed.engine.session().traced());
        header.sources.table_bytes = self.traced.as_ref().map_or(0, |feed| feed.table_bytes);
        header.notes = self.notes();
        if read.closed > 0 {
            header.notes.push(format!("{} processes could not be read in /proc", read.closed));
        }
        Ok(sample)
    }

    fn mapped(&self) -> HashMap<u32, Mapped> {
        let processes = self.growth.iter().flat_map(Feed::processes);
        let mapped = |(pid, (_, process)): (u32, (ProcessId, &Process))| {
            let mapped =
                Mapped { brk: process.brk_bytes, mmap: process.mmap_bytes, munmap: process.munmap_bytes };
            (pid, mapped)
        };
        processes.map(mapped).collect()
    }

    /// Numbers of the traced processes; names of their first sites, and what their calls cost, are asked for where they
    /// are not known yet.
    fn traced_now(&mut self) -> HashMap<u32, Traced> {
        let Some(feed) = &mut self.traced else { return HashMap::new() };
        let mut top: HashMap<ProcessId, (u64, StackId)> = HashMap::new();
        for site in feed.sites() {
            let bytes = site.totals.live_bytes();
            let most = top.entry(site.process).or_insert((0, site.stack));
            if bytes > most.0 {
                *most = (bytes, site.stack);
            }
        }
        let stacks: Vec<StackId> = top.values().map(|(_, stack)| *stack).collect();
        if let Some(job) = feed.names_of(&stacks) {
            self.background.ask(job);
        }
        let trap_ns = feed.engine.trap_ns();
        let mode = feed.engine.mode();
        let names = StackNames::attributed(feed.profile(), &self.frames);
        let estimates = report::live_intervals(feed.profile());
        let mut traced = HashMap::new();
        for (pid, (id, process)) in feed.processes() {
            let cost = match process.chooses_samples(mode) {
                // Its own probes' traps, and no others.
                true => trap_ns.map(|ns| ProbeCost { alloc_ns: ns, free_ns: None }),
                false => match self.costs.get(&process.allocators) {
                    Some(cost) => *cost,
                    None if process.allocators.is_empty() => None,
                    None => {
                        self.costs.insert(process.allocators.clone(), None);
                        self.background.ask(Job::Cost { pid, allocators: process.allocators.clone(), mode });
                        None
                    }
                },
            };
            let top_site = top.get(&id).filter(|(bytes, _)| *bytes > 0).and_then(|(_, stack)| {
                let folded = names.folded(*stack);
                names.of(*stack).into_iter().nth(folded)
            });
            let live_interval = estimates.get(id.index()).copied();
            traced.insert(pid, traced_process(process, mode, cost, top_site, live_interval));
        }
        traced
    }

    /// What is lacking, one sentence each.
    fn notes(&self) -> Vec<String> {
        let mut notes = self.lasting.clone();
        for (feed, what) in [(&self.growth, "growth"), (&self.traced, "tracing")] {
            let Some(feed) = feed else { continue };
            notes.extend(report::losses(feed.profile()).into_iter().map(|loss| format!("{what}: {loss}")));
            let untraceable = &feed.profile().coverage.untraceable;
            if what == "tracing" && !untraceable.is_empty() {
                let first = &untraceable[0];
                let more = untraceable.len() - 1;
                let reason = format!("{}:{}: {}", first.comm, first.pid, first.reason);
                notes.push(match more {
                    0 => format!("not traced: {reason}"),
                    _ => format!("{} processes are not traced, as {reason}", untraceable.len()),
                });
            }
        }
        notes
    }

    /// Has the background find out what tracing a process would be.
    pub fn examine(&self, pid: u32) {
        let table_bytes = if self.traced.is_some() { 0 } else { self.options.sizes.memory_bytes().first };
        self.background.ask(Job::Examine { pid, table_bytes, mode: self.options.mode });
    }

    /// Traces a process; what is to be said.
    pub fn arm(&mut self, pid: u32) -> String {
        match self.try_arm(pid) {
            Ok(()) => {
                self.hurry.get_or_insert_with(Hurry::begin);
                format!("process {pid} is traced; T ends that")
            }
            Err(error) => {
                self.drop_if_idle();
                format!("{error:#}")
            }
        }
    }

    fn try_arm(&mut self, pid: u32) -> anyhow::Result<()> {
        if self.traced.is_none() {
            let number = self.next_number();
            self.traced = Some(Feed::new(&self.options, number)?);
        }
        if let Some(feed) = &mut self.traced {
            feed.engine.add_pid(pid)?;
        }
        Ok(())
    }

    /// Ends tracing a process; what is to be said.
    pub fn disarm(&mut self, pid: u32) -> String {
        let Some(feed) = &mut self.traced else { return format!("process {pid} is not traced") };
        let said = match feed.engine.drop_pid(pid) {
            Ok(removed) if removed.is_empty() => format!("process {pid} is not traced"),
            Ok(removed) if removed.len() == 1 => format!("the probes of process {pid} are gone"),
            Ok(removed) => {
                format!("the probes of process {pid} are gone, and of {} followed from it", removed.len() - 1)
            }
            Err(error) => format!("process {pid} could not be let go of: {error}"),
        };
        self.drop_if_idle();
        said
    }

    /// Gives the tables back once nothing is traced any more; what was lost is remembered.
    pub fn drop_if_idle(&mut self) {
        if self.all || self.traced.as_ref().is_none_or(|feed| !feed.engine.session().has_ended()) {
            return;
        }
        if let Some(mut feed) = self.traced.take() {
            // A failure here would be one of reading what nobody asks for any more.
            let _ = feed.refresh(monotonic_ns());
            let losses = report::losses(feed.profile()).into_iter();
            self.lasting.extend(losses.map(|loss| format!("earlier tracing: {loss}")));
            feed.engine.detach();
        }
        if let Some(hurry) = self.hurry.take() {
            hurry.end();
        }
    }

    /// Whether somebody looks at what memory is made of: reading it takes the process's page tables' lock for a moment.
    pub fn measure(&mut self, wanted: bool) {
        self.looks = wanted;
        if let Some(feed) = &mut self.traced {
            feed.measure(wanted);
        }
    }

    /// The flame graph of a process, to be made in the background; or why there is none.
    pub fn flame(&self, pid: u32) -> Result<(), String> {
        let find = |feed: &Feed| Some(feed.flame(feed.processes().get(&pid)?.0, pid));
        let job = self.traced.as_ref().and_then(find).or_else(|| self.growth.as_ref().and_then(find));
        let job = job.ok_or_else(|| {
            format!("no flame graph: neither malloc nor brk and mmap of process {pid} are traced")
        })?;
        self.background.ask(job);
        Ok(())
    }

    /// The screen of a process, without what its history says.
    pub fn detail(&mut self, pid: u32, order: SiteOrder) -> Detail {
        let mapped = self.mapped().get(&pid).copied();
        for feed in [&mut self.traced, &mut self.growth].into_iter().flatten() {
            let Some(process) = feed.processes().get(&pid).map(|(id, _)| *id) else { continue };
            let (mut detail, job) = detail::of(feed, process, pid, order, mapped, &self.frames);
            if let Some(job) = job {
                self.background.ask(job);
            }
            if self.looks && feed.is_growth() {
                detail.residency = self.memory.lines(pid);
            }
            return detail;
        }
        let residency = if self.looks { self.memory.lines(pid) } else { Vec::new() };
        Detail { pid, residency, ..Detail::default() }
    }

    /// Takes what the background has done; what is left is for the screen.
    pub fn take(&mut self, done: Done) -> anyhow::Result<Option<Done>> {
        Ok(match done {
            Done::Names { feed: number, names } => {
                let feeds = [&mut self.growth, &mut self.traced].into_iter().flatten();
                if let Some(feed) = feeds.into_iter().find(|feed| feed.number == number) {
                    feed.take_names(names)?;
                }
                None
            }
            Done::Cost { allocators, cost } => {
                self.costs.insert(allocators, cost);
                None
            }
            done => Some(done),
        })
    }

    /// Takes everything away; gives the seconds that took.
    pub fn end(mut self) -> f64 {
        let feeds = [self.traced.take(), self.growth.take()].into_iter().flatten();
        feeds.map(|mut feed| feed.engine.detach()).sum()
    }
}

/// How a mode traces, where its numbers are not those of every block and every free.
fn how(mode: Mode) -> Option<String> {
    let samples = || match mode {
        Mode::Native => "the allocators' own samples".to_owned(),
        _ => format!("sampled, one in {} bytes", thousands(mode.sample_bytes())),
    };
    match mode {
        Mode::Exact | Mode::Growth | Mode::Faults => None,
        Mode::Allocs => Some("no frees: LIVE is an upper bound".to_owned()),
        _ if mode.has_frees() => Some(format!("{}: all are estimates", samples())),
        _ => Some(format!("{}: all are estimates, LIVE an upper bound", samples())),
    }
}

/// What is counted of a process that is traced in this mode.
fn traced_process(
    process: &Process,
    mode: Mode,
    cost: Option<ProbeCost>,
    top_site: Option<String>,
    live_interval: Option<(u64, u64)>,
) -> Traced {
    let totals = &process.totals;
    let trapped_allocs = match mode {
        _ if process.chooses_samples(mode) => process.hits,
        Mode::Sampled(_) => process.seen_count,
        _ => totals.alloc_count,
    };
    Traced {
        live_bytes: totals.live_bytes(),
        live_blocks: totals.live_count(),
        live_interval,
        allocs: totals.alloc_count,
        trapped_allocs,
        frees: mode.has_frees().then_some(totals.free_count),
        unknown_frees: process.unknown_frees,
        attached_ns: process.attached_ns,
        attached_fraction: process.attached_fraction(),
        cost,
        top_site,
    }
}

/// Nanoseconds that a system call which does nothing takes us, on average: short enough to be repeated at each refresh.
fn time_syscalls() -> f64 {
    const CALLS: u32 = 500;
    let started = Instant::now();
    for _ in 0..CALLS {
        // SAFETY: takes nothing and does nothing.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    started.elapsed().as_nanos() as f64 / f64::from(CALLS)
}
