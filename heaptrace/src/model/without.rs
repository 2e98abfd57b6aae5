//! A profile without some of its sites, as if they had never allocated.

use super::{Profile, Site, SiteId};

impl Profile {
    /// Takes the sites out that are marked, of blocks and of growth, and what they have out of their processes' totals. Peaks
    /// and memory that was measured stay, as they cannot be divided; so it is nothing for a profile with a history.
    pub fn take_out(&mut self, of_blocks: &[bool], of_growth: &[bool]) {
        self.is_reduced |= of_blocks.contains(&true);
        for (site, _) in self.sites.iter().zip(of_blocks).filter(|(_, out)| **out) {
            if let Some(process) = self.processes.get_mut(site.process.index()) {
                process.totals.subtract(&site.totals);
            }
        }
        let mut number = 0;
        let numbers: Vec<Option<SiteId>> = (0..self.sites.len())
            .map(|index| {
                let stays = !of_blocks.get(index).copied().unwrap_or_default();
                let id = SiteId(number);
                number += u32::from(stays);
                stays.then_some(id)
            })
            .collect();
        let renumbered = std::mem::take(&mut self.cohorts).into_iter();
        self.cohorts = renumbered.filter_map(|(id, of)| Some(((*numbers.get(id.index())?)?, of))).collect();
        retain(&mut self.sites, of_blocks);
        retain(&mut self.growth, of_growth);
    }
}

fn retain(sites: &mut Vec<Site>, out: &[bool]) {
    let mut out = out.iter();
    sites.retain(|_| !out.next().copied().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::profiles::full,
        model::{Cohorts, ProcessId},
    };

    #[test]
    fn what_is_taken_out_is_in_no_total_and_numbers_follow() {
        let mut profile = full();
        let cohorts = |span_ns| Cohorts { span_ns, ..Cohorts::default() };
        profile.cohorts = (0..3).map(|id| (SiteId(id), cohorts(id.into()))).collect();
        let before = profile.processes[0].totals;
        let (first, third) = (profile.sites[0].totals, profile.sites[2].clone());
        let mut out = vec![false; profile.sites.len()];
        (out[0], out[1]) = (true, true);
        let second = profile.sites[1].totals;
        profile.take_out(&out, &[false, true]);
        assert_eq!((profile.sites.len(), profile.growth.len()), (8, 2));
        assert_eq!(profile.sites[0], third);
        assert_eq!(profile.cohorts, [(SiteId(0), cohorts(2))].into());
        let after = profile.processes[ProcessId(0).index()].totals;
        assert_eq!(after.alloc_bytes, before.alloc_bytes - first.alloc_bytes - second.alloc_bytes);
        assert_eq!(after.live_count(), before.live_count() - first.live_count() - second.live_count());
    }
}
