//! The tables that grow while tracing, sites, the tree of stacks and live blocks: how large they begin, when they grow and by
//! how much. The kernel side tells when about half of what there is is used; what finds no room until it has grown is
//! counted as lost.

use super::{
    array::SharedArray,
    chunks::{self, Chunks, NewChunks},
    error::LoadError,
    nodes::Nodes,
    taken,
};
use crate::process::priority;
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use heaptrace_common::{
    live::{self, LiveLine},
    record::{CHUNK_SITES, Cursors, SiteRecord, index},
    tree::{self, CHUNK_LINES, CHUNK_NODES, Line},
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::Errno,
};
use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        atomic::{Ordering, fence},
    },
    thread::{self, JoinHandle},
};

/// Room that there is from the beginning.
const FIRST_SITES: u32 = 2 * CHUNK_SITES;
const FIRST_NODES: u32 = 2 * CHUNK_NODES / 3 * 2;

/// The most chunks of sites that are added at one time: 12 MB. Each takes a grace period (`maybe_wait_bpf_programs`,
/// kernel/bpf/syscall.c), some 20 ms.
const SITE_STEP: u32 = 4;

/// The part of the map beside the live table that may fill until the table grows.
const SPILL_PART: u64 = 8;

/// Chunks of sites for at most `sites`.
pub(super) fn site_chunks(sites: u32) -> u32 {
    sites.div_ceil(CHUNK_SITES).max(1)
}

/// Bytes of so many chunks.
pub(super) const SITE_CHUNK_BYTES: u64 = CHUNK_SITES as u64 * size_of::<SiteRecord>() as u64;
pub(super) const NODE_CHUNK_BYTES: u64 = CHUNK_LINES as u64 * size_of::<Line>() as u64;
const LIVE_CHUNK_BYTES: u64 = live::CHUNK_LINES as u64 * size_of::<LiveLine>() as u64;

/// Sites that may take so many bytes, with their part of the index: two cells each, of 8 bytes, and rounded up to a power
/// of two; and `beside` bytes each elsewhere.
pub(super) fn sites_within(bytes: u64, beside: u64) -> u32 {
    (1..=MOST_SITES / CHUNK_SITES)
        .map(|chunks| chunks * CHUNK_SITES)
        .take_while(|sites| {
            let index = u64::from(index::cells_for(*sites)) * 8;
            let sites = u64::from(*sites) * beside + u64::from(site_chunks(*sites)) * SITE_CHUNK_BYTES;
            sites + index <= bytes
        })
        .last()
        .unwrap_or(FIRST_SITES)
        .max(FIRST_SITES)
}

/// Frames that may take so many bytes.
pub(super) fn frames_within(bytes: u64) -> u32 {
    let chunks = (bytes / NODE_CHUNK_BYTES).clamp(1, 1 << tree::MAX_LEVEL);
    // As many as have room in so many chunks: see `tree::chunks_for`.
    ((1_u32 << chunks.ilog2()) * (CHUNK_NODES / 3 * 2)).max(FIRST_NODES)
}

/// More than that have no number in an entry of the live table, with one for each process: see `live::value`.
const MOST_SITES: u32 = 1 << 22;

/// Chunks of live blocks that may take so many bytes.
pub(super) fn live_chunks_within(bytes: u64) -> u32 {
    match bytes / LIVE_CHUNK_BYTES {
        0 => 0,
        chunks => 1 << chunks.ilog2().min(live::MAX_LEVEL - 1),
    }
}

/// Bytes that these take in the beginning, and in the end, where there may be so many. Live blocks have another table in
/// the beginning.
pub(super) fn memory_bytes(sites: u32, nodes: u32, live_chunks: u32) -> (u64, u64) {
    let bytes = |sites, nodes| {
        u64::from(site_chunks(sites)) * SITE_CHUNK_BYTES
            + u64::from(tree::chunks_for(nodes)) * NODE_CHUNK_BYTES
    };
    let live = u64::from(live_chunks) * LIVE_CHUNK_BYTES;
    (bytes(sites.min(FIRST_SITES), nodes.min(FIRST_NODES)), bytes(sites, nodes) + live)
}

/// All of them.
pub(super) struct Tables {
    pub grown: Grown,
    /// What the table of live blocks grows by.
    pub live: Chunks<LiveLine>,
    pub grower: Grower,
}

/// Sites and stacks as they are read.
pub(super) struct Grown {
    sites: Chunks<SiteRecord>,
    pub nodes: Nodes,
}

impl Grown {
    pub fn site(&self, index: u32) -> Option<SiteRecord> {
        self.sites.get(index)
    }

    /// The process record of a site, once it is ready.
    pub fn site_owner(&self, index: u32) -> Option<u32> {
        let site = self.sites.pointer(index)?;
        // SAFETY: within the chunk, which is mapped as long as the table; plain data. The kernel side makes a site ready last.
        unsafe {
            ((&raw const (*site).ready).read_volatile() != 0)
                .then(|| (&raw const (*site).process).read_volatile())
        }
    }

    /// The innermost nodes of the stacks of the first `made` sites, those that are being made among them.
    pub fn stacks(&self, made: u32) -> impl Iterator<Item = u32> + '_ {
        (0..made).filter_map(|index| {
            let site = self.sites.pointer(index)?;
            // SAFETY: within the chunk, as above.
            Some(unsafe { (&raw const (*site).stack).read_volatile() })
        })
    }

    /// The process that a site is made for or of; a site that nobody has says 0.
    pub fn site_maker(&self, index: u32) -> Option<u32> {
        let site = self.sites.pointer(index)?;
        // SAFETY: within the chunk, as above.
        Some(unsafe { (&raw const (*site).process).read_volatile() })
    }

    /// Empties the place of a site that nothing leads to any more.
    pub fn clear_site(&self, index: u32) {
        self.sites.clear(index);
    }
}

/// Who makes room, on a thread of its own: whoever reads the tables may be busy for a second.
pub(super) struct Grower {
    thread: Option<JoinHandle<()>>,
    /// Written to end it.
    end: Arc<OwnedFd>,
    failed: Arc<OnceLock<io::Error>>,
}

impl Grower {
    /// Why the tables could not grow, if they could not.
    pub fn failure(&self) -> Option<&io::Error> {
        self.failed.get()
    }
}

impl Drop for Grower {
    fn drop(&mut self) {
        // Its counter has room for one.
        let _ = rustix::io::write(&self.end, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic there has cost room only, which is counted.
            let _ = thread.join();
        }
    }
}

/// How far they may grow.
pub(super) struct Most {
    pub sites: u32,
    pub nodes: u32,
    pub live_chunks: u32,
    /// Entries of the map beside the table of live blocks, which does not.
    pub spill: u32,
}

/// Takes the tables and begins to see to their room. `cursors` is the map's.
pub(super) fn take(ebpf: &mut Ebpf, cursors: SharedArray<Cursors>, most: Most) -> Result<Tables, LoadError> {
    let Most { sites, nodes, live_chunks, spill } = most;
    let (of_sites, new_sites) =
        chunks::take(ebpf, "SITES", CHUNK_SITES, site_chunks(sites.min(FIRST_SITES)))?;
    let (of_nodes, new_nodes) =
        chunks::take(ebpf, "NODES", CHUNK_LINES, tree::chunks_for(nodes.min(FIRST_NODES)))?;
    let (of_live, new_live) = chunks::take(ebpf, "LIVE_GROWN", live::CHUNK_LINES, 0)?;
    let low: RingBuf<MapData> = taken::take(ebpf, "LOW")?;
    let shared = |source| LoadError::Maps { source };
    let end = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| shared(error.into()))?;
    let (end, failed) = (Arc::new(end), Arc::new(OnceLock::new()));
    let mut room = Room {
        sites: new_sites,
        nodes: new_nodes,
        live: new_live,
        live_most: live_chunks,
        spill: spill.into(),
        failed: failed.clone(),
        cursors,
    };
    room.tell();
    let growing = {
        let (end, failed) = (end.clone(), failed.clone());
        move || {
            priority::raise();
            if let Err(error) = room.follow(low, &end) {
                let _ = failed.set(error);
            }
        }
    };
    let thread = thread::Builder::new().name("heaptrace-grow".to_owned()).spawn(growing).map_err(shared)?;
    Ok(Tables {
        grown: Grown { sites: of_sites, nodes: Nodes(of_nodes) },
        live: of_live,
        grower: Grower { thread: Some(thread), end, failed },
    })
}

/// The tables as they grow.
struct Room {
    sites: NewChunks<SiteRecord>,
    nodes: NewChunks<Line>,
    live: NewChunks<LiveLine>,
    /// Its most chunks.
    live_most: u32,
    /// Entries of the map beside it.
    spill: u64,
    failed: Arc<OnceLock<io::Error>>,
    cursors: SharedArray<Cursors>,
}

impl Room {
    /// Makes room whenever it is told, until `end`.
    fn follow(&mut self, mut low: RingBuf<MapData>, end: &OwnedFd) -> io::Result<()> {
        loop {
            // SAFETY: the ring has its descriptor as long as it lives.
            let ring = unsafe { BorrowedFd::borrow_raw(low.as_raw_fd()) };
            let mut ready = [PollFd::new(&ring, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
            match poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                polled => polled?,
            };
            if !ready[1].revents().is_empty() {
                return Ok(());
            }
            while low.next().is_some() {}
            // The kernel side tells when it comes to that much, not if it is past that.
            while self.grow()? {}
        }
    }

    /// Grows what runs short. Whether it did: then it may run short still.
    fn grow(&mut self) -> io::Result<bool> {
        let Some(used) = self.cursors.get(0) else { return Ok(false) };
        let grown = self.add(&used);
        // What was added before an error is used, too.
        self.tell();
        grown
    }

    fn add(&mut self, used: &Cursors) -> io::Result<bool> {
        let (low_sites, low_nodes) = (self.low_sites(), self.low_nodes());
        // First, as a node without a place costs all stacks that have it.
        if used.nodes >= low_nodes {
            for _ in 0..self.nodes.count() {
                self.nodes.add()?;
            }
            self.tell();
        }
        if used.sites >= low_sites {
            let step = self.sites.count().min(SITE_STEP).min(self.sites.most() - self.sites.count());
            for _ in 0..step {
                self.sites.add()?;
            }
        }
        let live_is_low = self.live_is_low(used);
        // One at a time, as the others may run short meanwhile. There is room for these where there is none for 16 MiB.
        if live_is_low && let Err(error) = self.live.add() {
            let _ = self.failed.set(error);
            self.live_most = self.live.count();
        }
        Ok(used.sites >= low_sites || used.nodes >= low_nodes || live_is_low)
    }

    fn live_is_low(&self, used: &Cursors) -> bool {
        let chunks = self.live.count();
        let level_is_whole = chunks == 0 || chunks.is_power_of_two();
        chunks < self.live_most
            && (!level_is_whole || used.spilled >= self.low_spilled() || used.grown_live >= self.low_grown())
    }

    /// Blocks in the chunks at which there are to be more: half of their places.
    fn low_grown(&self) -> u64 {
        match self.live.count() {
            0 => u64::MAX,
            chunks if chunks >= self.live_most => u64::MAX,
            chunks => u64::from(chunks) * u64::from(live::CHUNK_LINES) * live::WAYS as u64 / 2,
        }
    }

    /// Blocks in the map beside the table at which there is to be a first chunk. What comes there later is what no line
    /// tells, and more lines would not help.
    fn low_spilled(&self) -> u64 {
        if self.live.count() == 0 && self.live_most > 0 { self.spill / SPILL_PART } else { u64::MAX }
    }

    /// Sites at which there are to be more; never, if there can be none.
    fn low_sites(&self) -> u64 {
        if self.sites.count() == self.sites.most() { u64::MAX } else { self.site_room() / 2 }
    }

    fn low_nodes(&self) -> u64 {
        if self.nodes.count() == self.nodes.most() { u64::MAX } else { tree::low(self.nodes.count()) }
    }

    fn site_room(&self) -> u64 {
        u64::from(self.sites.count()) * u64::from(CHUNK_SITES)
    }

    fn tell(&self) {
        let Some(cursors) = self.cursors.pointer(0) else { return };
        // SAFETY: within the mapping; only we write these fields.
        unsafe {
            (&raw mut (*cursors).site_room).write_volatile(self.site_room());
            // Between two levels, after an error, the lower one.
            (&raw mut (*cursors).tree_level).write_volatile(u64::from(self.nodes.count().ilog2()));
            (&raw mut (*cursors).low_sites).write_volatile(self.low_sites());
            (&raw mut (*cursors).low_nodes).write_volatile(self.low_nodes());
            (&raw mut (*cursors).live_level).write_volatile(live::level(self.live.count()).into());
            (&raw mut (*cursors).low_spilled).write_volatile(self.low_spilled());
            (&raw mut (*cursors).low_grown).write_volatile(self.low_grown());
        }
        // Before it is looked at how much is used: else neither side may see the other's.
        fence(Ordering::SeqCst);
    }
}
