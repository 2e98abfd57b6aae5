//! A session that is looked at while it runs: kept up with its targets, and folded into a profile at each refresh.

use super::job::Job;
use crate::{
    bpf::EventRing,
    commands::{
        names::{self, Names},
        outside::{available_memory, check_memory, host, now_ns},
    },
    error::CannotTrace,
    model::{LocationId, Mode, Process, ProcessId, Profile, Site, StackId, Start, Symbol},
    session::{Session, SessionOptions},
    top::SiteHistory,
};
use std::{collections::HashMap, io, sync::Arc};
use tokio::{io::unix::AsyncFd, sync::Notify, task::yield_now};

/// See the module.
pub struct Feed {
    pub session: Session,
    ring: AsyncFd<EventRing>,
    tables: Arc<Notify>,
    pub profile: Profile,
    /// Of the profile's `sites`, or of its `growth`, whichever it is about.
    pub history: SiteHistory,
    /// It is about growth.
    growth: bool,
    names: Names,
    /// Tells it from earlier ones, whose symbols may still come.
    pub number: u64,
    pub table_bytes: u64,
    /// What the memory of its processes is made of is looked into now and then.
    pub measures: bool,
}

impl Feed {
    /// Loads the kernel side. Must be called within the runtime.
    pub fn new(options: &SessionOptions, number: u64) -> anyhow::Result<Self> {
        let table_bytes = options.sizes.memory_bytes().first;
        check_memory(table_bytes, available_memory())?;
        let (session, events) = Session::new(options).map_err(|error| CannotTrace(error.to_string()))?;
        let tables = session.tables_ready().unwrap_or_default();
        // SAFETY: the ring owns its descriptor and keeps it until it is dropped, after the registration.
        let ring = unsafe { AsyncFd::register(events) }?;
        let start = Start {
            heaptrace: env!("CARGO_PKG_VERSION").to_owned(),
            host: host(),
            started_ns: now_ns(),
            mode: Mode::Exact,
        };
        Ok(Self {
            session,
            ring,
            tables,
            profile: Profile::new(start),
            history: SiteHistory::default(),
            growth: options.growth,
            names: Names::default(),
            number,
            table_bytes,
            measures: false,
        })
    }

    /// Waits for news from the kernel and deals with them. Nothing is lost where it is not waited for to the end.
    pub async fn keep_up(&mut self) -> io::Result<()> {
        tokio::select! {
            guard = self.ring.readable_mut() => {
                let mut guard = guard?;
                let events = guard.get_inner_mut().read();
                if events.len() < EventRing::AT_ONCE {
                    guard.clear_ready();
                }
                self.session.handle_events(events.iter().map(|told| *told.event()));
                // Where there are always some, keys and signals would not be seen else.
                yield_now().await;
            }
            () = self.tables.notified() => self.session.take_tables(),
        }
        Ok(())
    }

    /// Reads the maps.
    pub fn refresh(&mut self, at_ns: u64) -> anyhow::Result<()> {
        self.session.drain();
        if self.measures {
            self.session.measure_some();
        }
        self.profile.fold(self.session.chunk()?)?;
        if self.measures {
            self.profile.measure(self.session.take_residency())?;
        }
        // It is complete up to now.
        self.profile.coverage.finished = true;
        let sites = if self.growth { &self.profile.growth } else { &self.profile.sites };
        self.history.add(at_ns, sites);
        Ok(())
    }

    /// Whether it is about growth, or else about blocks.
    pub fn is_growth(&self) -> bool {
        self.growth
    }

    /// The sites that it is about.
    pub fn sites(&self) -> &[Site] {
        if self.growth { &self.profile.growth } else { &self.profile.sites }
    }

    /// The processes that are looked at now, by PID.
    pub fn processes(&self) -> HashMap<u32, (ProcessId, &Process)> {
        let running = self.session.running();
        let process = |(record, pid): (u32, u32)| {
            let id = self.session.process_id(record)?;
            Some((pid, (id, self.profile.processes.get(id.index())?)))
        };
        running.into_iter().filter_map(process).collect()
    }

    /// What is to be symbolized so that these stacks can be shown, and was not asked for before.
    pub fn names_of(&mut self, stacks: &[StackId]) -> Option<Job> {
        let (ids, locations) = self.names.new_in(&self.profile, stacks.iter().copied());
        if ids.is_empty() {
            return None;
        }
        Some(Job::Names { feed: self.number, ids, job: self.session.symbol_job(locations) })
    }

    /// Takes symbols that were found.
    pub fn take_names(&mut self, found: Vec<(LocationId, Vec<Symbol>)>) {
        names::put(&mut self.profile, found);
    }

    /// A flame graph of one process, to be made elsewhere.
    pub fn flame(&self, process: ProcessId, pid: u32) -> Job {
        let mut profile = Box::new(self.profile.clone());
        let other = |site: &Site| site.process != process;
        profile.sites.retain(|site| !other(site));
        profile.growth.retain(|site| !other(site));
        let sites = profile.sites.iter().chain(&profile.growth);
        let stacks: Vec<StackId> = sites.map(|site| site.stack).collect();
        let (ids, locations) = Names::default().new_in(&profile, stacks.into_iter());
        let job = self.session.symbol_job(locations);
        Job::Flame { profile, ids, job, growth: self.growth, pid }
    }
}
