//! Which sites of the map each record has: one that execs or unmaps code has its own read, not everybody's.

use std::collections::HashMap;

/// Sites by record.
#[derive(Default)]
pub(super) struct Owners {
    sites: HashMap<u32, Vec<u32>>,
    /// Sites below this are among those or among `unready`.
    seen: u32,
    /// Sites that were being made when looked at. A slot that lost a race for its key stays among them.
    unready: Vec<u32>,
}

impl Owners {
    /// The sites of `record`, of all `made` so far; `owner` gives the record of a site that is ready.
    pub fn sites_of(&mut self, record: u32, made: u32, owner: impl Fn(u32) -> Option<u32>) -> Vec<u32> {
        let new = self.seen..made.max(self.seen);
        self.seen = new.end;
        let looked_at: Vec<u32> = self.unready.drain(..).chain(new).collect();
        for site in looked_at {
            match owner(site) {
                Some(owner) => self.sites.entry(owner).or_default().push(site),
                None => self.unready.push(site),
            }
        }
        self.sites.get(&record).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_site_is_found_once_it_is_ready() {
        let mut owners = Owners::default();
        let odd = |site: u32| Some(site % 2);
        assert_eq!(owners.sites_of(1, 4, |site| odd(site).filter(|_| site != 1)), [3]);
        assert_eq!(owners.sites_of(1, 4, odd), [3, 1]);
        assert_eq!(owners.sites_of(0, 7, odd), [0, 2, 4, 6]);
        assert_eq!(owners.sites_of(1, 7, |_| None), [3, 1, 5]);
        assert_eq!(owners.sites_of(2, 7, odd), [0; 0]);
    }
}
