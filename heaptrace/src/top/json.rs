//! Refreshes for programs: one JSON object a line. What is not measured is `null`.

use super::{
    history::History,
    order::Place,
    row::Row,
    sample::{Header, Sample},
};
use crate::printable::write_json;
use serde::Serialize;
use std::io::{self, Write};

#[derive(Serialize)]
struct Refresh<'a> {
    schema: u32,
    time: String,
    interval_s: f64,
    memory: MemoryJson,
    sources: SourcesJson<'a>,
    processes: Vec<ProcessJson<'a>>,
    /// What is not covered, in words.
    notes: &'a [String],
}

#[derive(Serialize)]
struct MemoryJson {
    total_bytes: u64,
    available_bytes: u64,
    swap_total_bytes: u64,
    swap_free_bytes: u64,
}

#[derive(Serialize)]
struct SourcesJson<'a> {
    growth: bool,
    growth_unavailable: Option<&'a str>,
    growth_ns_per_syscall: Option<f64>,
    growth_table_bytes: u64,
    traced_processes: usize,
    traced_calls_per_s: f64,
    /// At the least.
    traced_cost_cpus: Option<f64>,
    traced_table_bytes: u64,
    kernel_threads_left_out: usize,
    /// As `--trace` has it.
    mode: &'a str,
    /// Frees are not traced: what is live is at most that.
    live_is_bound: bool,
}

#[derive(Serialize)]
struct ProcessJson<'a> {
    pid: u32,
    parent_pid: u32,
    user: &'a str,
    uid: u32,
    comm: &'a str,
    command: &'a str,
    cgroup: Option<&'a str>,
    mem_percent: f64,
    virt_bytes: u64,
    res_bytes: u64,
    heap_bytes: u64,
    heap_growth_bytes_per_min: Option<f64>,
    faults: Option<u64>,
    faults_per_s: Option<f64>,
    mapped_growth_bytes_per_min: Option<f64>,
    brk_bytes: Option<i64>,
    mmap_bytes: Option<u64>,
    munmap_bytes: Option<u64>,
    traced: Option<TracedJson<'a>>,
}

#[derive(Serialize)]
struct TracedJson<'a> {
    live_bytes: u64,
    live_count: u64,
    live_growth_bytes_per_min: Option<f64>,
    alloc_count: u64,
    /// `null` where frees are not traced.
    free_count: Option<u64>,
    unknown_frees: u64,
    allocs_per_s: Option<f64>,
    frees_per_s: Option<f64>,
    /// Of one processor, at the least.
    cost_cpus: Option<f64>,
    top_site: Option<&'a str>,
    /// Where blocks are sampled: between what the truth lies 95 times in 100, `[low, high]`.
    live_bytes_interval: Option<(u64, u64)>,
    /// The share of its time in which its calls counted.
    attached_fraction: f64,
}

/// Writes one refresh; `time_ns` is since the Unix epoch.
///
/// # Errors
/// What writing to `out` fails with.
pub fn render(
    time_ns: i64,
    header: &Header,
    sample: &Sample,
    (rows, history, places): (&[Row], &History, &[Place]),
    out: &mut dyn Write,
) -> io::Result<()> {
    let time = jiff::Timestamp::from_nanosecond(time_ns.into()).unwrap_or_default();
    let sources = &header.sources;
    let process = |place: &Place| {
        let row = &rows[place.row];
        let pid = row.identity.pid;
        let mapped = sample.mapped.get(&pid);
        let faults = history.of(row.identity).and_then(|track| Some(track.points().next_back()?.faults));
        let counted = sample.traced.get(&pid);
        ProcessJson {
            pid,
            parent_pid: row.parent,
            user: &row.about.user,
            uid: row.about.uid,
            comm: &row.about.comm,
            command: &row.about.command,
            cgroup: Some(row.about.cgroup.as_str()).filter(|cgroup| !cgroup.is_empty()),
            mem_percent: row.mem_percent,
            virt_bytes: row.virt,
            res_bytes: row.res,
            heap_bytes: row.heap,
            heap_growth_bytes_per_min: row.growth,
            faults,
            faults_per_s: row.faults_per_s,
            mapped_growth_bytes_per_min: row.mapped,
            brk_bytes: mapped.map(|mapped| mapped.brk),
            mmap_bytes: mapped.map(|mapped| mapped.mmap),
            munmap_bytes: mapped.map(|mapped| mapped.munmap),
            traced: row.traced.as_ref().zip(counted).map(|(traced, counted)| TracedJson {
                live_bytes: traced.live_bytes,
                live_count: traced.live_blocks,
                live_growth_bytes_per_min: traced.growth,
                alloc_count: counted.allocs,
                free_count: counted.frees,
                unknown_frees: traced.unknown_frees,
                allocs_per_s: traced.allocs_per_s,
                frees_per_s: traced.frees_per_s,
                cost_cpus: traced.cost,
                top_site: traced.top_site.as_deref(),
                live_bytes_interval: traced.live_interval,
                attached_fraction: traced.attached_fraction,
            }),
        }
    };
    let refresh = Refresh {
        schema: 1,
        time: time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        interval_s: header.interval_s,
        memory: MemoryJson {
            total_bytes: header.memory.total,
            available_bytes: header.memory.available,
            swap_total_bytes: header.memory.swap_total,
            swap_free_bytes: header.memory.swap_free,
        },
        sources: SourcesJson {
            growth: sources.no_growth.is_none(),
            growth_unavailable: sources.no_growth.as_deref(),
            growth_ns_per_syscall: sources.syscall_ns,
            growth_table_bytes: sources.growth_bytes,
            traced_processes: sources.traced,
            traced_calls_per_s: sources.events_per_s,
            traced_cost_cpus: sources.processors,
            traced_table_bytes: sources.table_bytes,
            kernel_threads_left_out: header.kernel_threads,
            mode: sources.mode,
            live_is_bound: sources.live_is_bound,
        },
        processes: places.iter().map(process).collect(),
        notes: &header.notes,
    };
    write_json(&refresh, out)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::top_rows,
        top::{
            filter::Filter,
            order::{Arrangement, arrange},
            row,
        },
    };

    #[test]
    fn a_refresh_is_an_object_on_a_line() {
        let (history, sample) = top_rows::history(true);
        let rows = row::rows(&sample, &history);
        let filter = Filter::parse("pid<900 pid>1").expect("a filter");
        let sort = crate::top::Column::Pid;
        let places = arrange(&rows, &Arrangement { sort, reverse: false, filter: &filter, tree: false });
        let mut out = Vec::new();
        render(0, &top_rows::header(true), &sample, (&rows, &history, &places), &mut out).expect("a line");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        insta::assert_snapshot!(serde_json::to_string_pretty(&value).expect("JSON"));
    }
}
