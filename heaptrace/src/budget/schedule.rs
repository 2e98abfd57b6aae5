//! Whose probes go, and whose come back.

use super::{
    account::{Account, PERIOD_NS},
    growth::{Growing, Grown, Watch},
};
use std::collections::{HashMap, HashSet};

/// Processes whose probes come back at one look: it takes some 10 ms each, in which forks are not followed.
const BACK_AT_ONCE: usize = 4;

/// How long nothing is tried with a process whose probes could not be placed.
const AFTER_FAILURE_NS: u64 = 5_000_000_000;

/// How a process stands since it became a target. `K` names it, whatever program it runs.
#[derive(Clone, Copy, Debug)]
pub struct Reading<K> {
    pub process: K,
    /// Of its probes, so far.
    pub hits: u64,
    /// Processor time, so far.
    pub cpu_ns: u64,
    /// Anonymous resident memory; `None` if it is not known.
    pub bytes: Option<u64>,
    /// Its probes are in place.
    pub is_on: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<K> {
    /// Its probes are to go.
    Off(K),
    /// Its probes are to come back. `grown`: it is why.
    On(K, Option<Grown>),
}

/// One process.
struct Member {
    hits: u64,
    cpu_ns: u64,
    account: Account,
    growth: Watch,
    /// Why its probes are to come back, until they do.
    grown: Option<Grown>,
    /// When its probes came last, if they ever did: it has to save before they come back.
    came_ns: Option<u64>,
    is_on: bool,
    /// Since when its probes have been away, or something was tried with it.
    since_ns: u64,
    not_before_ns: u64,
}

/// See the module.
pub struct Schedule<K> {
    /// Of the processor time. `None` for no bound.
    share: Option<f64>,
    growing: Option<Growing>,
    members: HashMap<K, Member>,
    /// All processes', those among them that ended before they were looked at.
    whole: Option<Account>,
    hits: u64,
    placed_ns: u64,
    now_ns: u64,
}

impl<K: Copy + Eq + std::hash::Hash + Ord> Schedule<K> {
    pub fn new(share: Option<f64>, growing: Option<Growing>) -> Self {
        Self {
            share,
            growing,
            members: HashMap::new(),
            whole: share.map(Account::full),
            hits: 0,
            placed_ns: 0,
            now_ns: 0,
        }
    }

    /// Whether probes may be placed in processes that nothing is known of yet.
    pub fn takes_new(&self) -> bool {
        self.growing.is_none() && !self.whole.is_some_and(|whole| whole.is_spent())
    }

    /// All processes, as they stand at `now_ns`; `hits` are those of all that ever were, and `hit_ns` is what one costs. To
    /// place probes in processes as they began took `placed_ns` so far.
    pub fn look(
        &mut self,
        now_ns: u64,
        hit_ns: f64,
        (hits, placed_ns): (u64, u64),
        readings: &[Reading<K>],
    ) -> Vec<Change<K>> {
        let passed = now_ns.saturating_sub(std::mem::replace(&mut self.now_ns, now_ns)) as f64;
        let passed = if self.members.is_empty() { 0.0 } else { passed };
        let there: HashSet<K> = readings.iter().map(|reading| reading.process).collect();
        self.members.retain(|process, _| there.contains(process));
        let mut cpu = 0;
        for reading in readings {
            cpu += self.account(now_ns, passed, hit_ns, reading);
        }
        let new_hits = hits.saturating_sub(std::mem::replace(&mut self.hits, hits));
        let placed = placed_ns.saturating_sub(std::mem::replace(&mut self.placed_ns, placed_ns));
        let spent = new_hits as f64 * hit_ns + placed as f64;
        if let Some(whole) = &mut self.whole {
            whole.pass(passed, cpu as f64, spent);
        }
        self.decide(now_ns, readings)
    }

    /// The probes of a process could not be placed.
    pub fn failed(&mut self, process: K) {
        if let Some(member) = self.members.get_mut(&process) {
            member.not_before_ns = self.now_ns.saturating_add(AFTER_FAILURE_NS);
            member.since_ns = self.now_ns;
        }
    }

    /// Takes what a process has used; gives the processor time of that.
    fn account(&mut self, now_ns: u64, passed: f64, hit_ns: f64, reading: &Reading<K>) -> u64 {
        let Reading { process, hits, cpu_ns, bytes, is_on } = *reading;
        let share = self.share.unwrap_or(1.0);
        let member = self.members.entry(process).or_insert_with(|| Member {
            hits: 0,
            cpu_ns: 0,
            account: Account::full(share),
            growth: Watch::default(),
            grown: None,
            came_ns: None,
            is_on: false,
            since_ns: now_ns,
            not_before_ns: 0,
        });
        let cpu = cpu_ns.saturating_sub(std::mem::replace(&mut member.cpu_ns, cpu_ns));
        // Fewer: it runs another program.
        let before = std::mem::replace(&mut member.hits, hits);
        let new = hits.checked_sub(before).unwrap_or(hits);
        member.account.pass(passed, cpu as f64, new as f64 * hit_ns);
        if let (Some(growing), Some(bytes)) = (self.growing, bytes) {
            let grown = member.growth.look(growing, now_ns, bytes);
            member.grown = grown.or(member.grown);
        }
        if is_on && !member.is_on {
            member.came_ns = Some(now_ns);
        }
        if is_on {
            member.since_ns = now_ns;
            member.grown = None;
        }
        member.is_on = is_on;
        cpu
    }

    fn decide(&mut self, now_ns: u64, readings: &[Reading<K>]) -> Vec<Change<K>> {
        let is_bound = self.share.is_some();
        let takes_new = !self.whole.is_some_and(|whole| whole.is_spent());
        let (mut changes, mut waiting) = (Vec::new(), Vec::new());
        for Reading { process, is_on, .. } in readings {
            let Some(member) = self.members.get(process) else { continue };
            let is_wanted = self.growing.is_none() || member.growth.grows(now_ns);
            if *is_on {
                if !is_wanted || is_bound && member.account.is_spent() {
                    changes.push(Change::Off(*process));
                }
                continue;
            }
            let has_saved = match member.came_ns {
                _ if !is_bound => true,
                Some(came_ns) => {
                    now_ns.saturating_sub(came_ns) as f64 >= PERIOD_NS && member.account.is_full()
                }
                None => takes_new && !member.account.is_spent(),
            };
            if is_wanted && has_saved && now_ns >= member.not_before_ns {
                waiting.push((member.since_ns, *process));
            }
        }
        // Who has waited longest is first, so that each has its turn.
        waiting.sort_unstable();
        for (_, process) in waiting.into_iter().take(BACK_AT_ONCE) {
            let grown = self.members.get(&process).and_then(|member| member.grown);
            changes.push(Change::On(process, grown));
        }
        changes
    }
}
