//! One process as the table has it: what was read, and what its history makes of it.

use super::{
    history::{History, Point, TracedPoint, Track},
    sample::{About, Sample, Sources},
};
use crate::{process::procfs::Identity, units::percent};
use std::sync::Arc;

/// Cells of a trend.
pub const TREND: usize = 8;

/// See the module. `None` is what is not measured.
#[derive(Clone, Debug)]
pub struct Row {
    pub identity: Identity,
    pub parent: u32,
    pub about: Arc<About>,
    /// Of the machine's memory, in percent.
    pub mem_percent: f64,
    pub virt: u64,
    pub res: u64,
    pub heap: u64,
    /// Of the heap, in bytes a minute.
    pub growth: Option<f64>,
    /// Heap bytes over the last minute, the last one last.
    pub trend: Vec<u64>,
    pub faults_per_s: Option<f64>,
    /// Growth of what is mapped, in bytes a minute.
    pub mapped: Option<f64>,
    /// The share of one processor that it uses.
    pub cpu: Option<f64>,
    pub traced: Option<TracedRow>,
}

/// What is known of a process with probes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TracedRow {
    pub live_bytes: u64,
    pub live_blocks: u64,
    pub live_interval: Option<(u64, u64)>,
    pub attached_fraction: f64,
    pub allocs_per_s: Option<f64>,
    pub frees_per_s: Option<f64>,
    /// Of live bytes, a minute.
    pub growth: Option<f64>,
    /// The share of one processor that its traps take at the least.
    pub cost: Option<f64>,
    pub unknown_frees: u64,
    pub top_site: Option<String>,
}

impl Row {
    /// The process's name for people: its arguments, or its name where it has none.
    pub fn command(&self) -> &str {
        if self.about.command.is_empty() { &self.about.comm } else { &self.about.command }
    }
}

/// The rows of `sample`, which `history` has already.
pub fn rows(sample: &Sample, history: &History) -> Vec<Row> {
    let nothing = Track::default();
    let row = |seen: &super::sample::Seen| {
        let track = history.of(seen.identity).unwrap_or(&nothing);
        let traced = sample.traced.get(&seen.identity.pid).map(|traced| {
            let allocs_per_s = track.per_second_attached(|traced| Some(traced.allocs));
            let frees_per_s = track.per_second_attached(|traced| traced.frees);
            // As time passes, and not only while calls count: that is what a budget is about. Frees of older blocks have their trap,
            // too.
            let trapped_per_s = |of: fn(TracedPoint) -> u64| track.per_second(|point| point.traced.map(of));
            let trapped_allocs_per_s = trapped_per_s(|traced| traced.trapped_allocs);
            let trapped_frees_per_s = trapped_per_s(|traced| {
                traced.frees.map_or(0, |frees| frees.saturating_add(traced.unknown_frees))
            });
            let cost = traced.cost.zip(trapped_allocs_per_s.zip(trapped_frees_per_s));
            TracedRow {
                live_bytes: traced.live_bytes,
                live_blocks: traced.live_blocks,
                live_interval: traced.live_interval,
                attached_fraction: traced.attached_fraction,
                allocs_per_s,
                frees_per_s,
                growth: track.per_minute(|point| Some(point.traced?.live.cast_signed())),
                cost: cost.map(|(each, (allocs, frees))| {
                    (allocs * each.alloc_ns + frees * each.free_ns.unwrap_or_default()) / 1e9
                }),
                unknown_frees: traced.unknown_frees,
                top_site: traced.top_site.clone(),
            }
        });
        Row {
            identity: seen.identity,
            parent: seen.parent,
            about: Arc::clone(&seen.about),
            mem_percent: percent(seen.res, sample.memory.total),
            virt: seen.virt,
            res: seen.res,
            heap: seen.heap,
            growth: track.per_minute(|point| Some(point.heap.cast_signed())),
            trend: trend(track, sample.at_ns),
            faults_per_s: track.per_second(|point| Some(point.faults)),
            mapped: track.per_minute(|point| point.mapped),
            cpu: track.per_second(|point| Some(point.cpu_ns)).map(|ns| ns / 1e9),
            traced,
        }
    };
    sample.seen.iter().map(row).collect()
}

/// The heap at equal distances over the last minute, as far as it is known.
fn trend(track: &Track, now_ns: u64) -> Vec<u64> {
    const STEP_NS: u64 = 60_000_000_000 / TREND as u64;
    let mut cells: Vec<Option<u64>> = vec![None; TREND];
    for Point { at_ns, heap, .. } in track.points().rev() {
        let ago = (now_ns.saturating_sub(*at_ns) / STEP_NS) as usize;
        let Some(cell) = cells.iter_mut().nth_back(ago) else { break };
        cell.get_or_insert(*heap);
    }
    cells.into_iter().flatten().collect()
}

impl Sources {
    /// Sums up what `rows` say of tracing.
    pub fn sum(&mut self, rows: &[Row]) {
        let traced = || rows.iter().filter_map(|row| row.traced.as_ref());
        self.traced_shown = traced().count();
        // A process that ended since the session looked has a row still.
        self.traced = self.traced.max(self.traced_shown);
        let calls = |row: &TracedRow| row.allocs_per_s.unwrap_or(0.0) + row.frees_per_s.unwrap_or(0.0);
        self.events_per_s = traced().map(calls).sum();
        // A sum that lacks one would be no least.
        let mut costs = traced().filter(|row| row.allocs_per_s.is_some()).map(|row| row.cost);
        self.processors = costs.try_fold(0.0, |sum, cost| Some(sum + cost?)).filter(|_| self.traced > 0);
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures::top_rows;

    #[test]
    fn what_is_not_measured_is_absent() {
        let rows = top_rows::rows();
        let python = rows.iter().find(|row| row.about.comm == "python3").expect("python3");
        assert!(python.traced.is_none() && python.growth.is_some_and(|growth| growth > 0.0));
        let redis = rows.iter().find(|row| row.about.comm == "redis-server").expect("redis");
        let traced = redis.traced.as_ref().expect("traced");
        assert!(traced.allocs_per_s.is_some() && traced.cost.is_some());
        assert_eq!(redis.trend.len(), super::TREND);
    }
}
