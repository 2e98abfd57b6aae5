//! The sites of one process for its screen.

use super::{feed::Feed, job::Job};
use crate::{
    attribution::Attribution,
    model::{Process, ProcessId, SiteId, SizeHistogram, StackId},
    report::{StackNames, residency_lines, verdict_in_words},
    top::{Detail, Mapped, SiteKind, SiteOrder, SiteRow, sort_sites},
    widgets::amount::{bytes, signed_bytes},
};

/// Sites that are shown; further ones are counted.
const SHOWN: usize = 200;

/// What is known of process `id` with PID `pid`, and what is to be symbolized for it.
pub fn of(
    feed: &mut Feed,
    id: ProcessId,
    pid: u32,
    order: SiteOrder,
    mapped: Option<Mapped>,
    frames: &Attribution,
) -> (Detail, Option<Job>) {
    let growth = feed.is_growth();
    let mode = feed.engine.mode();
    let judged = feed.judged().clone();
    let mut sizes = SizeHistogram::default();
    let mut sites: Vec<SiteRow> = Vec::new();
    for (index, site) in feed.sites().iter().enumerate().filter(|(_, site)| site.process == id) {
        sizes.add(&site.sizes);
        let rates = feed.history.rates(index);
        sites.push(SiteRow {
            id: index,
            bytes: site.totals.live_bytes(),
            count: site.totals.live_count(),
            growth: rates.growth,
            allocs_per_s: rates.allocs_per_s,
            frees_per_s: rates.frees_per_s.filter(|_| mode.has_frees()),
            function: site.function.name(),
            frames: Vec::new(),
            inner: 0,
            judged: judged.get(&SiteId(index as u32)).filter(|_| !growth).copied(),
            said: None,
        });
    }
    sort_sites(&mut sites, order);
    let hidden = sites.len().saturating_sub(SHOWN);
    sites.truncate(SHOWN);
    let stacks: Vec<StackId> = sites.iter().filter_map(|row| Some(feed.sites().get(row.id)?.stack)).collect();
    let job = feed.names_of(&stacks);
    let is_sampled = feed.profile().mode.sample_bytes() != 0;
    let names = StackNames::attributed(feed.profile(), frames);
    for (row, stack) in sites.iter_mut().zip(stacks) {
        row.frames = names.of(stack);
        row.inner = if growth { names.inner(stack) } else { names.folded(stack) };
        row.said = row.judged.as_ref().map(|judged| verdict_in_words(judged, is_sampled));
    }
    let mut notes = feed.profile().processes.get(id.index()).map(notes).unwrap_or_default();
    if hidden > 0 {
        notes.push(format!("{hidden} more sites are not shown; f shows them all"));
    }
    let detail = Detail {
        pid,
        kind: if growth { SiteKind::Growth } else { SiteKind::Blocks },
        sites,
        sizes: (mode.sample_bytes() == 0).then_some(sizes.0),
        timeline: Vec::new(),
        mapped: mapped.map(|mapped| {
            format!(
                "since top began: brk {}, mmap {}, munmap {}",
                signed_bytes(mapped.brk as f64),
                bytes(mapped.mmap),
                bytes(mapped.munmap)
            )
        }),
        residency: if growth { Vec::new() } else { residency_lines(feed.profile(), id.index()) },
        notes,
    };
    (detail, job)
}

/// What is particular to this process's numbers.
fn notes(process: &Process) -> Vec<String> {
    let mut notes = Vec::new();
    if process.lost_count > 0 {
        notes.push(format!("{} blocks found no room and are in no total", process.lost_count));
    }
    if process.inherited_count > 0 {
        notes.push(format!("{} blocks inherited at fork are in no total", process.inherited_count));
    }
    if let Some(gap) = process.attach_gap_ns {
        notes.push(format!("not traced for its first {:.3} ms", gap as f64 / 1e6));
    }
    if process.missed_frees > 0 {
        notes.push(format!("{} blocks counted as freed, whose free was not seen", process.missed_frees));
    }
    notes
}
