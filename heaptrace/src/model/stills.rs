//! Takes [`super::Still`]s of a recording while it is read once more.

use super::{ProcessId, Profile, SiteId, Still};

/// Stills at most: as finely as people select spans of a timeline by hand.
const MOST: usize = 32;

/// Numbers in all of them together, at most: what a recording with very many sites changes in each still stays at some tens
/// of megabytes. Two there are in any case, as one cannot be compared with anything.
const NUMBERS: usize = 1 << 21;

/// See the module. The moments are chosen beforehand, evenly among all that were saved, with the peak, the marks and the end among
/// them.
#[derive(Debug)]
pub struct Stills {
    /// Numbers of the moments, from 1, in their order.
    chosen: Vec<usize>,
    number: usize,
    processes: Vec<u64>,
    sites: Vec<u64>,
    taken: Vec<Still>,
}

impl Stills {
    /// Of a recording that was saved so many times, with its `peak` if that is not the end, those that are `marked`, as far as
    /// they find room, and with so many sites in the end.
    pub fn new(saved: usize, peak: Option<usize>, marked: &[usize], sites: usize) -> Self {
        let most = (NUMBERS / sites.max(1)).clamp(2, MOST).min(saved);
        let mut wanted: Vec<usize> = Vec::new();
        for number in peak.into_iter().chain(marked.iter().copied()) {
            // The last one is there in any case.
            if wanted.len() + 1 < most && number < saved && !wanted.contains(&number) {
                wanted.push(number);
            }
        }
        let evenly = most - wanted.len();
        let mut chosen: Vec<usize> = (1..=evenly).map(|n| n * saved / evenly).chain(wanted).collect();
        chosen.sort_unstable();
        chosen.dedup();
        Self { chosen, number: 0, processes: Vec::new(), sites: Vec::new(), taken: Vec::new() }
    }

    /// Takes the next moment: the profile as it is then.
    pub fn take(&mut self, profile: &Profile) {
        self.number += 1;
        if self.chosen.get(self.taken.len()) != Some(&self.number) {
            return;
        }
        let processes = profile.processes.iter().map(|process| process.totals.live_bytes());
        let sites = profile.sites.iter().map(|site| site.totals.live_bytes());
        self.taken.push(Still {
            at_ns: profile.duration_ns,
            processes: changed(&mut self.processes, processes, ProcessId),
            sites: changed(&mut self.sites, sites, SiteId),
        });
    }

    pub fn taken(self) -> Vec<Still> {
        self.taken
    }
}

/// Puts new numbers in the place of old ones, and says which are others.
fn changed<Id>(numbers: &mut Vec<u64>, new: impl Iterator<Item = u64>, id: fn(u32) -> Id) -> Vec<(Id, u64)> {
    let mut changed = Vec::new();
    for (index, new) in (0..).zip(new) {
        match numbers.get_mut(index as usize) {
            Some(old) if *old == new => continue,
            Some(old) => *old = new,
            None => {
                numbers.push(new);
                if new == 0 {
                    continue;
                }
            }
        }
        changed.push((id(index), new));
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::profiles::full, model::Totals};
    use proptest::prelude::*;

    #[test]
    fn each_still_has_what_is_not_as_before() {
        let mut profile = full();
        let mut stills = Stills::new(3, None, &[], profile.sites.len());
        let live = |bytes| Totals { alloc_bytes: bytes, alloc_count: 1, ..Totals::default() };
        profile.duration_ns = 5;
        stills.take(&profile);
        (profile.duration_ns, profile.sites[1].totals, profile.processes[0].totals) =
            (10, live(77), live(99));
        stills.take(&profile);
        (profile.duration_ns, profile.sites[1].totals) = (15, live(0));
        stills.take(&profile);
        let taken = stills.taken();
        assert_eq!(taken[0].sites.first(), Some(&(SiteId(0), 800_000)));
        // What exec released is live nowhere.
        assert!(taken[0].sites.iter().all(|(site, _)| *site != SiteId(6)), "{taken:?}");
        let second = Still { at_ns: 10, processes: vec![(ProcessId(0), 99)], sites: vec![(SiteId(1), 77)] };
        let third = Still { at_ns: 15, processes: vec![], sites: vec![(SiteId(1), 0)] };
        assert_eq!(taken[1..], [second, third]);
    }

    proptest! {
        #[test]
        fn moments_are_few_and_peak_marks_and_end_are_among_them(
            saved in 1_usize..5_000, peak in 0.0..1.0, sites in 0_usize..3_000_000,
            marked in proptest::collection::vec(0.0..1.0, 0..50),
        ) {
            let number = |share: f64| (share * saved as f64) as usize;
            let peak = Some(number(peak)).filter(|peak| *peak > 0 && *peak < saved);
            let marked: Vec<usize> = marked.into_iter().map(number).filter(|number| *number > 0).collect();
            let Stills { chosen, .. } = Stills::new(saved, peak, &marked, sites);
            prop_assert!(chosen.is_sorted_by(|a, b| a < b), "{chosen:?}");
            prop_assert!(chosen.len() <= MOST && (chosen.len() * sites <= NUMBERS.max(2 * sites)), "{chosen:?}");
            prop_assert!(chosen.first() > Some(&0) && chosen.last() == Some(&saved));
            prop_assert!(peak.is_none_or(|peak| chosen.contains(&peak)), "{chosen:?} {peak:?}");
            if sites <= NUMBERS / MOST && marked.len() < MOST - 1 {
                prop_assert!(marked.iter().all(|marked| chosen.contains(marked)), "{chosen:?} {marked:?}");
            }
        }
    }
}
