//! What came since a moment: what there is later, less what there was then.

use super::{Amount, LifetimeHistogram, Profile, Site, SizeHistogram, Totals};

/// What there was at a moment, to be taken from what there is later.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    processes: Vec<Totals>,
    sites: Vec<Had>,
    growth: Vec<Had>,
}

/// What a site had.
type Had = (Totals, SizeHistogram, LifetimeHistogram);

impl Earlier {
    pub fn of(profile: &Profile) -> Self {
        let had = |site: &Site| (site.totals, site.sizes.clone(), site.lifetimes.clone());
        let had = |sites: &[Site]| sites.iter().map(had).collect();
        Self {
            processes: profile.processes.iter().map(|of| of.totals).collect(),
            sites: had(&profile.sites),
            growth: had(&profile.growth),
        }
    }

    /// Bytes of memory that it takes.
    pub fn size(&self) -> u64 {
        let sites = self.sites.iter().chain(&self.growth);
        let of_sites = sites.map(|(_, sizes, lifetimes)| {
            let histograms = size_of_val(sizes.0.as_slice()) + size_of_val(lifetimes.0.as_slice());
            (size_of::<Had>() + histograms) as u64
        });
        of_sites.sum::<u64>() + size_of_val(self.processes.as_slice()) as u64
    }
}

impl Profile {
    /// Leaves of the totals of all blocks what came since. Gives what stacks have less than they had.
    pub fn since(&mut self, earlier: &Earlier) -> Amount {
        self.is_reduced = true;
        for (process, had) in self.processes.iter_mut().zip(&earlier.processes) {
            process.totals.subtract(had);
        }
        let mut shrank = Amount::default();
        for (sites, had) in [(&mut self.sites, &earlier.sites), (&mut self.growth, &earlier.growth)] {
            for (site, (totals, sizes, lifetimes)) in sites.iter_mut().zip(had) {
                shrank.add(Amount {
                    bytes: totals.live_bytes().saturating_sub(site.totals.live_bytes()),
                    count: totals.live_count().saturating_sub(site.totals.live_count()),
                });
                site.totals.subtract(totals);
                site.lifetimes.subtract(lifetimes);
                site.sizes.subtract(sizes);
            }
        }
        // They are of all blocks, and of all frees.
        self.frees = None;
        self.cohorts.clear();
        shrank
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::full;

    #[test]
    fn what_came_since_is_the_difference_and_what_shrank_is_told() {
        let before = full();
        let mut profile = before.clone();
        for totals in [&mut profile.sites[0].totals, &mut profile.processes[0].totals] {
            totals.alloc_bytes += 7_001;
            totals.alloc_count += 3;
        }
        for totals in [&mut profile.sites[1].totals, &mut profile.processes[0].totals] {
            totals.free_bytes += 11;
            totals.free_count += 1;
        }
        let shrank = profile.since(&Earlier::of(&before));
        assert_eq!(shrank, Amount { bytes: 11, count: 1 });
        let live = |site: &Site| (site.totals.live_bytes(), site.totals.live_count());
        assert_eq!(
            profile.sites.iter().map(live).filter(|live| *live != (0, 0)).collect::<Vec<_>>(),
            [(7_001, 3)]
        );
        assert_eq!(profile.processes[0].totals.live_bytes(), 6_990);
        assert!(profile.growth.iter().all(|site| site.totals == Totals::default()));
        assert!(profile.sites.iter().all(|site| site.sizes.total() == 0));
    }

    #[test]
    fn what_was_not_there_came_as_a_whole() {
        let mut profile = full();
        let mut before = profile.clone();
        before.sites.truncate(1);
        profile.since(&Earlier::of(&before));
        assert_eq!(profile.sites[1].totals, full().sites[1].totals);
    }
}
