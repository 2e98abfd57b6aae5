//! Divides the anonymous memory of a process on jemalloc by its counters. Which of its pages are in memory they do not
//! say, so that what is not known is between bounds.

use super::parts::{How, Left, Live, Part, PartKind, known, why_before};
use crate::model::{Extent, JemallocHeap, Traced};

/// Pushes the parts, which sum to what of `anonymous` is resident. Gives what of jemalloc's pages is not resident at
/// least.
pub(super) fn divide(heap: &JemallocHeap, traced: &Traced, anonymous: Extent, parts: &mut Vec<Part>) -> u64 {
    let JemallocHeap {
        version,
        arenas,
        in_use_bytes,
        cached_bytes: _,
        active_bytes,
        dirty_bytes,
        muzzy_bytes,
        metadata_bytes,
    } = heap;
    let resident = anonymous.resident_bytes;
    // Any of what is not in memory may be of any part.
    let missing = anonymous.virtual_bytes.saturating_sub(resident);
    let in_use = Extent { virtual_bytes: *in_use_bytes, resident_bytes: (*in_use_bytes).min(resident) };
    // Blocks that jemalloc counts as in use no more may still be in the live map, so that these are held by all of it.
    let mut live = Live::of(traced, if traced.blocks.is_some() { anonymous } else { in_use }, false);
    if traced.blocks.is_none() {
        // Their share says nothing: that jemalloc's pages are in memory is assumed.
        live.least = live.requested.virtual_bytes.saturating_sub(missing).min(live.least);
    }
    let slack = traced.blocks.map_or(0, |blocks| blocks.slack.virtual_bytes);
    let mut left = Left(resident);
    let live_resident = left.take(live.requested.resident_bytes);
    live.most = live.most.min(resident);
    parts.push(live.part(live_resident));

    let of_traced = live.requested.virtual_bytes.saturating_add(slack);
    let before = in_use_bytes.saturating_sub(of_traced);
    // A request with an alignment is rounded up to more than its size says; without a look at the blocks none of the
    // rounding is known, which is a quarter at most but for the smallest.
    let blocks = traced.blocks.map_or(traced.live_count, |blocks| blocks.count);
    let unknown = match traced.blocks {
        Some(_) => 0,
        None => (traced.live_bytes / 4).saturating_add(blocks.saturating_mul(16)),
    };
    let pages = |bytes: u64| format!("{bytes} by the counters of jemalloc {version}");
    let mut push = |part, name, bytes: u64, slack: u64, how, why: &str| {
        let extent = Extent { virtual_bytes: bytes, resident_bytes: left.take(bytes) };
        parts.push(Part {
            least_bytes: bytes.saturating_sub(missing).saturating_sub(slack).min(extent.resident_bytes),
            most_bytes: bytes.saturating_add(slack).min(resident).max(extent.resident_bytes),
            ..known(part, name, extent, how, why)
        });
    };
    let from = "jemalloc's bytes in use, less the traced blocks at their size classes (blocks with an alignment may \
                be of a larger one); taken to be in memory";
    push(
        PartKind::BeforeAttach,
        "allocated before tracing",
        before,
        unknown,
        How::Inferred,
        &why_before(traced, from),
    );
    let why = match traced.blocks {
        Some(_) => "by jemalloc's size classes for the traced blocks; taken to be in memory",
        None => "not known: the blocks were not looked at; it is in what was allocated before tracing",
    };
    push(PartKind::AllocatorSlack, "allocator's headers and rounding", slack, unknown, How::Inferred, why);
    let held = (*in_use_bytes).max(of_traced);
    let arenas = if *arenas == 1 { "the arena".to_owned() } else { format!("{arenas} arenas") };
    let free = active_bytes.saturating_sub(held);
    let why = format!(
        "fragmentation: free in the pages with blocks of {arenas} and in threads' caches, {}; taken to be in memory",
        pages(free)
    );
    push(PartKind::AllocatorFree, "allocator's free blocks", free, 0, How::Inferred, &why);
    let why = "pages of jemalloc's own state that it has touched, by its counters";
    push(PartKind::AllocatorMetadata, "allocator's metadata", *metadata_bytes, 0, How::Inferred, why);
    let kept = dirty_bytes.saturating_add(*muzzy_bytes);
    let why = format!(
        "dirty and muzzy: not yet given back to the kernel; {muzzy_bytes} of it are muzzy, which the kernel may have taken"
    );
    push(PartKind::AllocatorPages, "allocator's free pages", kept, 0, How::Inferred, &why);

    let all = [held, free, *metadata_bytes, kept].into_iter().fold(0, u64::saturating_add);
    let rest = left.0;
    parts.push(Part {
        // Of jemalloc's pages as many may be missing as there are that are not in memory.
        most_bytes: rest.saturating_add(missing.min(all)).min(resident),
        ..known(
            PartKind::OtherAnonymous,
            "other anonymous",
            Extent { virtual_bytes: anonymous.virtual_bytes.saturating_sub(all), resident_bytes: rest },
            How::Inferred,
            "private memory without a file that jemalloc has not in use or kept: mmap by the program, libraries' \
             .bss; at least this, as jemalloc's pages are taken to be in memory",
        )
    });
    all.saturating_sub(resident.saturating_sub(rest))
}
