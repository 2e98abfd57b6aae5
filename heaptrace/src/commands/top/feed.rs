//! An engine that is looked at while it runs: a snapshot at each refresh, and what is remembered from one to the next.

use super::job::Job;
use crate::{
    commands::{
        names::Names,
        outside::{available_memory, check_memory},
    },
    engine::{Engine, Looks, Snapshots},
    model::{self, Process, ProcessId, Profile, Site, SiteId, StackId},
    session::{SessionOptions, monotonic_ns},
    top::SiteHistory,
    verdicts::{Judgement, judge_all},
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::Instant,
};

/// Sites are judged so often, and it takes one part in so many of the time at most.
const JUDGES_NS: u64 = 3_000_000_000;
const AT_MOST: u64 = 20;

/// See the module.
pub struct Feed {
    pub engine: Engine<Snapshots>,
    /// Of the profile's `sites`, or of its `growth`, whichever it is about.
    pub history: SiteHistory,
    /// It is about growth.
    growth: bool,
    names: Names,
    /// Tells it from earlier ones, whose symbols may still come.
    pub number: u64,
    pub table_bytes: u64,
    /// Where frees are not seen: when blocks that are over may be looked for again, which takes its time.
    next_end: Option<Instant>,
    judged: BTreeMap<SiteId, Judgement>,
    /// When sites may be judged again (`CLOCK_MONOTONIC`).
    judges_at_ns: u64,
}

/// How many times as long as it takes is the least time from one look for blocks that are over to the next.
const END_SHARE: u32 = 10;

impl Feed {
    /// Loads the kernel side. Must be called within the runtime.
    pub fn new(options: &SessionOptions, number: u64) -> anyhow::Result<Self> {
        let table_bytes = options.sizes.memory_bytes().first;
        check_memory(table_bytes, available_memory())?;
        Ok(Self {
            engine: Engine::new(options)?,
            history: SiteHistory::default(),
            growth: options.growth,
            names: Names::default(),
            number,
            table_bytes,
            next_end: options.mode.ends_unseen().then(Instant::now),
            judged: BTreeMap::new(),
            judges_at_ns: 0,
        })
    }

    /// Waits for news from the kernel, which are seen at the next refresh. Nothing is lost where it is not waited for to
    /// the end.
    pub async fn keep_up(&mut self) -> io::Result<()> {
        self.engine.next().await.map(drop)
    }

    /// Whether what the memory of its processes is made of is looked into.
    pub fn measure(&mut self, wanted: bool) {
        self.engine.look_into(Looks { memory: wanted, ..Looks::default() });
    }

    /// Takes a snapshot of now.
    pub fn refresh(&mut self, at_ns: u64) -> anyhow::Result<()> {
        self.engine.drain();
        if let Some(next) = &mut self.next_end
            && *next <= Instant::now()
        {
            let began = Instant::now();
            self.engine.end_blocks();
            *next = Instant::now() + began.elapsed() * END_SHARE;
        }
        let profile = self.engine.snapshot()?;
        self.history.add(at_ns, sites(&profile, self.growth));
        Ok(())
    }

    /// Verdicts on the sites, by all live blocks, which are read for it once in a while. For where somebody looks at sites.
    pub fn judged(&mut self) -> &BTreeMap<SiteId, Judgement> {
        let began_ns = monotonic_ns();
        if !self.growth && began_ns >= self.judges_at_ns {
            // Without them sites stay in order of bytes.
            let cohorts = self.engine.cohorts().unwrap_or_default();
            self.judged = judge_all(&cohorts, self.profile().mode);
            let took_ns = monotonic_ns().saturating_sub(began_ns);
            self.judges_at_ns = began_ns + JUDGES_NS.max(took_ns.saturating_mul(AT_MOST));
        }
        &self.judged
    }

    /// As of the last refresh.
    pub fn profile(&self) -> &Profile {
        self.engine.latest()
    }

    /// Whether it is about growth, or else about blocks.
    pub fn is_growth(&self) -> bool {
        self.growth
    }

    /// The sites that it is about.
    pub fn sites(&self) -> &[Site] {
        sites(self.profile(), self.growth)
    }

    /// The processes that are looked at now, by PID.
    pub fn processes(&self) -> HashMap<u32, (ProcessId, &Process)> {
        let session = self.engine.session();
        let process = |(record, pid): (u32, u32)| {
            let id = session.process_id(record)?;
            Some((pid, (id, self.profile().processes.get(id.index())?)))
        };
        session.running().into_iter().filter_map(process).collect()
    }

    /// What is to be symbolized so that these stacks can be shown, and was not asked for before.
    pub fn names_of(&mut self, stacks: &[StackId]) -> Option<Job> {
        let (ids, locations) = self.names.new_in(self.engine.latest(), stacks.iter().copied());
        if ids.is_empty() {
            return None;
        }
        Some(Job::Names { feed: self.number, ids, job: self.engine.session().symbol_job(locations) })
    }

    /// Takes symbols that were found.
    pub fn take_names(&mut self, names: model::Names) -> anyhow::Result<()> {
        self.engine.name(names).map(drop)
    }

    /// A flame graph of one process, to be made elsewhere.
    pub fn flame(&self, process: ProcessId, pid: u32) -> Job {
        let profile = Arc::clone(self.engine.latest());
        let sites = profile.sites.iter().chain(&profile.growth);
        let stacks = sites.filter(|site| site.process == process).map(|site| site.stack);
        let (ids, locations) = Names::default().new_in(&profile, stacks);
        let job = self.engine.session().symbol_job(locations);
        Job::Flame { profile, process, ids, job, growth: self.growth, pid }
    }
}

fn sites(profile: &Profile, growth: bool) -> &[Site] {
    if growth { &profile.growth } else { &profile.sites }
}
