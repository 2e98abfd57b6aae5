//! Where growth is followed: what the kernel side tells of memory is booked, and what is there still is looked at.

use super::{Session, monotonic_ns, unmapped::AT_MOST};
use crate::{
    bpf::{Calls, Told},
    growth::{self, Page, Seen, What},
    model::{Mode, Note},
    process::{
        pagemap::{self, Entry, FrameFlags, PAGE, PageMap},
        patience, procfs,
        system::huge_page_size,
    },
};
use heaptrace_common::event::kind;
use std::{io, ops::Range, sync::Arc, time::Instant};

/// What was seen of a process's memory.
struct Look {
    record: u32,
    /// When it began.
    now_ns: u64,
    seen: Vec<(u64, u64, Seen)>,
    /// Pages, and what came with each.
    whole: Vec<(u64, Range<u64>)>,
    /// There was time for all of it.
    is_whole: bool,
}

/// What pages are looked at with.
struct Frames {
    flags: Option<FrameFlags>,
    zero: Option<u64>,
}

impl Session {
    /// See [`Calls::Followed`].
    pub(super) fn follow(&mut self, mode: Mode) {
        let what = if mode == Mode::Faults { What::Touched } else { What::Mapped };
        self.builder.follow(what, procfs::page_size(), huge_page_size());
    }

    /// Books what came through the ring, after it was handled.
    pub fn take_told(&mut self, told: &[Told]) {
        if self.calls != Calls::Followed {
            return;
        }
        for told in told {
            match told {
                Told::Growth(growth) => self.builder.take_growth(growth),
                Told::Event(event) if event.kind == kind::FAULT => self.builder.take_fault(event),
                Told::Event(_) => {}
            }
        }
    }

    /// Looks what is there of what processes hold. For whenever that is about to be read; the last time before
    /// [`Session::detach`].
    pub(super) fn look_at_all_origins(&mut self) {
        self.builder.read_processes(&mut self.tracer.maps);
        let began = Instant::now();
        let holders: Vec<u32> = self.builder.holders().into_iter().map(|(record, _)| record).collect();
        let last = self.look_at_origins(&holders, || began.elapsed() < AT_MOST);
        if last != holders.last().copied() {
            self.note(Note::MappingsNotRead);
        }
    }

    /// The same of these records, as long as it `goes_on`; gives the last that was looked at.
    pub(super) fn look_at_origins(
        &mut self,
        records: &[u32],
        mut goes_on: impl FnMut() -> bool,
    ) -> Option<u32> {
        let mut looks = Vec::new();
        let mut last = None;
        let frames = Frames { flags: FrameFlags::open(), zero: pagemap::zero_frame() };
        for record in records.iter().copied().take_while(|_| goes_on()) {
            last = Some(record);
            let Some(pid) = self.builder.record(record).map(|record| record.tgid) else { continue };
            match self.look(record, pid, &frames) {
                Ok(look) => looks.extend(look),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => self.note(Note::MemoryNotMeasured { pid, reason: error.to_string() }),
            }
        }
        // After they were looked at: what has happened since tells what was not yet told then.
        self.builder.read_processes(&mut self.tracer.maps);
        self.take_code_changes();
        looks.retain(|look| self.is_image_still(look.record));
        if looks.iter().any(|look| !look.is_whole) {
            self.note(Note::MappingsNotRead);
        }
        let mut full = Vec::new();
        for Look { record, now_ns, seen, whole, is_whole: _ } in looks {
            let Some(origins) = self.builder.origins_mut(record) else { continue };
            whole.into_iter().for_each(|(of, with)| origins.adopt(of, with.start, with.end));
            origins.look(&seen, now_ns);
            full.extend(origins.is_full().then_some(record));
        }
        for record in full {
            let Some(pid) = self.builder.record(record).map(|record| record.tgid) else { continue };
            let reason =
                "it has more ranges from different calls than are kept; of what came since, nothing is shown";
            self.note(Note::MemoryNotMeasured { pid, reason: reason.to_owned() });
        }
        last
    }

    /// `None` of one whose memory goes away just now.
    fn look(&self, record: u32, pid: u32, frames: &Frames) -> io::Result<Option<Look>> {
        let now_ns = monotonic_ns();
        let Some(origins) = self.builder.origins(record) else { return Ok(None) };
        let (mut seen, mut whole) = (Vec::new(), Vec::new());
        if origins.what() == What::Mapped {
            let Some(mappings) = procfs::read_whole_maps(pid).map_err(io::Error::other)? else {
                return Ok(None);
            };
            seen = growth::seen_mapped(mappings.iter().map(|mapping| mapping.start..mapping.end));
            return Ok(Some(Look { record, now_ns, seen, whole, is_whole: true }));
        }
        let map = Arc::new(PageMap::open(pid)?);
        let began = Instant::now();
        for chunk in growth::chunks(origins.held().map(|(start, end, _)| (start, end)), PAGE) {
            // One page in each huge one takes a look at all of it.
            if began.elapsed() >= AT_MOST {
                return Ok(Some(Look { record, now_ns, seen, whole, is_whole: false }));
            }
            let (map, range) = (Arc::clone(&map), chunk.clone());
            let read = patience::look(pid, move || {
                let mut entries = Vec::new();
                map.read(&range, |entry| entries.push(entry))?;
                Ok::<_, io::Error>(entries)
            });
            let pages: Vec<Page> = read.flatten()?.into_iter().map(|entry| frames.page(entry)).collect();
            seen.extend(growth::seen(chunk.start, &pages, PAGE));
            let at = |page: usize| chunk.start + page as u64 * PAGE;
            for (page, run) in origins.beside(chunk.start, &pages) {
                let with = frames.compound(&pages, page, &run);
                if with.len() > 1 {
                    whole.push((at(page), at(with.start)..at(with.end)));
                }
            }
        }
        Ok(Some(Look { record, now_ns, seen, whole, is_whole: true }))
    }
}

impl Frames {
    fn page(&self, entry: Entry) -> Page {
        if !entry.is_present() {
            return if entry.is_swapped() { Page::Away } else { Page::Nothing };
        }
        if self.zero.is_some() && entry.frame() == self.zero {
            return Page::Away;
        }
        Page::There { frame: entry.frame().filter(|_| !entry.is_of_file()) }
    }

    /// Those of a run of pages that are one with the one at `page`.
    fn compound(&self, pages: &[Page], page: usize, run: &Range<usize>) -> Range<usize> {
        let alone = page..page + 1;
        let (Some(flags), Some(Page::There { frame: Some(first) })) = (&self.flags, pages.get(run.start))
        else {
            return alone;
        };
        let Ok(flags) = flags.read(*first, run.len() as u64) else { return alone };
        let with = growth::compound(&flags, page - run.start);
        run.start + with.start..run.start + with.end
    }
}
