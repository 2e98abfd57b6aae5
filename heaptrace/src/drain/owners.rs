//! Which sites of the map each record has: one that execs or unmaps code has its own read, not everybody's.

use std::collections::HashMap;

/// Sites by record.
#[derive(Default)]
pub(super) struct Owners {
    sites: HashMap<u32, Vec<u32>>,
    /// Sites that were being made when looked at. A slot that lost a race for its key stays among them until its record is
    /// retired.
    unready: Vec<u32>,
}

impl Owners {
    /// Takes `new` sites; `owner` gives the record of a site that is ready.
    pub fn take(&mut self, new: impl IntoIterator<Item = u32>, owner: impl Fn(u32) -> Option<u32>) {
        let looked_at: Vec<u32> = self.unready.drain(..).chain(new).collect();
        for site in looked_at {
            match owner(site) {
                Some(owner) => self.sites.entry(owner).or_default().push(site),
                None => self.unready.push(site),
            }
        }
    }

    /// The sites of `record`.
    pub fn sites_of(&self, record: u32) -> Vec<u32> {
        self.sites.get(&record).cloned().unwrap_or_default()
    }

    /// The record is retired: all its sites, those among them that were made for it and never got ready, as `maker` says of
    /// sites that have been written.
    pub fn retire(&mut self, record: u32, maker: impl Fn(u32) -> Option<u32>) -> Vec<u32> {
        let mut sites = self.sites.remove(&record).unwrap_or_default();
        sites.extend(self.unready.extract_if(.., |site| maker(*site) == Some(record)));
        sites
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_site_is_found_once_it_is_ready() {
        let mut owners = Owners::default();
        let odd = |site: u32| Some(site % 2);
        owners.take(0..4, |site| odd(site).filter(|_| site != 1));
        assert_eq!(owners.sites_of(1), [3]);
        owners.take([], odd);
        assert_eq!(owners.sites_of(1), [3, 1]);
        owners.take(4..7, odd);
        assert_eq!(owners.sites_of(0), [0, 2, 4, 6]);
        assert_eq!(owners.sites_of(1), [3, 1, 5]);
        assert_eq!(owners.sites_of(2), [0; 0]);
    }

    #[test]
    fn a_retired_record_takes_its_sites_along_and_those_that_never_got_ready() {
        let mut owners = Owners::default();
        owners.take(0..6, |site| (site < 4).then_some(site % 2));
        assert_eq!(owners.retire(1, |site| Some(if site == 4 { 1 } else { 0 })), [1, 3, 4]);
        assert_eq!((owners.sites_of(1), owners.sites_of(0)), (vec![], vec![0, 2]));
        // The numbers are others' by now.
        owners.take([1, 4], |_| Some(7));
        assert_eq!(owners.sites_of(7), [5, 1, 4]);
    }
}
