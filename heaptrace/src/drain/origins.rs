//! Memory that processes hold, by the stack that it came from, where growth is followed: see [`crate::growth::Origins`].

use super::{ProfileBuilder, followed::Followed, kept_sites::Kept, old::OldBySite};
use crate::{
    growth::{Origin, Origins, What, When, call_of},
    model::{OldBlocks, SiteId},
};
use heaptrace_common::{event::Event, growth::GrowthEvent, record::process_state};

impl ProfileBuilder {
    /// Has [`Self::old_memory`] know `what` processes hold, in pages of so many bytes and huge ones of so many where a call does
    /// not say it.
    pub fn follow(&mut self, what: What, page: u64, huge_page: u64) {
        self.followed = Some(Followed::new(what, page, huge_page));
    }

    /// Takes a call; those of a process come in the order in which they returned.
    pub fn take_growth(&mut self, told: &GrowthEvent) {
        let Some(followed) = &mut self.followed else { return };
        let Some(call) = call_of(told, followed.huge_page) else { return };
        let when = When { entered_ns: told.entered_ns, left_ns: told.event.time_ns };
        followed.of_record(told.event.process).apply(call, when, told.site.checked_sub(1));
    }

    /// Takes a page fault.
    pub fn take_fault(&mut self, told: &Event) {
        let (Some(followed), Some(site)) = (&mut self.followed, told.other.checked_sub(1)) else { return };
        if followed.what == What::Touched {
            followed.of_record(told.process).touch(told.address, told.length, site, told.time_ns);
        }
    }

    /// Records that run and hold something, with their PIDs, in order.
    pub fn holders(&self) -> Vec<(u32, u32)> {
        let Some(followed) = &self.followed else { return Vec::new() };
        let holds = |record| followed.by_record.get(&record).is_some_and(|of| of.held().next().is_some());
        self.running().filter(|(record, _)| holds(*record)).collect()
    }

    /// What a record holds.
    pub fn origins(&self, record: u32) -> Option<&Origins> {
        self.followed.as_ref()?.by_record.get(&record)
    }

    /// The same, to be told what was seen.
    pub fn origins_mut(&mut self, record: u32) -> Option<&mut Origins> {
        self.followed.as_mut()?.by_record.get_mut(&record)
    }

    /// What is held and at least `older_than_ns` old, at `now_ns` (`CLOCK_MONOTONIC`), or was when its process exited. After
    /// [`Self::read_sites`].
    pub fn old_memory(&self, older_than_ns: u64, now_ns: u64) -> OldBlocks {
        let kept = self.kept_old.as_ref();
        let mut by_site = kept.map(|kept| kept.by_site.clone()).unwrap_or_default();
        let records = self.followed.iter().flat_map(|followed| followed.by_record.keys());
        for record in records {
            self.add_held(*record, older_than_ns, now_ns, &mut by_site);
        }
        OldBlocks { younger: by_site.younger.amount(), sites: by_site.into_old(), ..OldBlocks::default() }
    }

    /// What a record that is about to be retired held at its end is kept, and known no more by the record's and the sites'
    /// numbers.
    pub(super) fn keep_held(&mut self, record: u32) {
        if let Some(mut kept) = self.kept_old.take() {
            self.add_held(record, kept.older_than_ns(), 0, &mut kept.by_site);
            self.kept_old = Some(kept);
        }
        if let Some(followed) = &mut self.followed {
            followed.by_record.remove(&record);
        }
    }

    /// Of a site that was not read yet: the next time.
    fn add_held(&self, record: u32, older_than_ns: u64, now_ns: u64, to: &mut OldBySite) {
        let (Some(followed), Some(of)) = (&self.followed, self.record(record)) else { return };
        // An exec, or letting go of it, ended what others held.
        let exited = of.state == process_state::EXITED;
        if !exited && of.state != process_state::RUNNING {
            return;
        }
        let until = if of.ended_ns == 0 { now_ns } else { of.ended_ns };
        let held = followed.by_record.get(&record).into_iter().flat_map(Origins::held);
        for (start, end, Origin { site, since_ns, there }) in held {
            if let Some(Kept::Growth(site)) = self.kept.ids.get(&site).filter(|_| there) {
                let age_ns = until.saturating_sub(since_ns);
                to.add(SiteId(site.0), followed.amount(start, end), age_ns, older_than_ns, exited);
            }
        }
    }
}
