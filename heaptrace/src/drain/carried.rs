//! Size classes as the map's sites have them, counted on: `heaptrace_common::sizes` says how they are kept there.

use crate::model::SizeHistogram;
use heaptrace_common::sizes::{CARRIED, CARRY, SIZE_CLASSES, WORDS, carried_of, count};
use std::{collections::HashMap, io};

/// What classes have carried, by site in the map, as last read.
#[derive(Default)]
pub(super) struct Carried {
    by_site: HashMap<u32, [u64; SIZE_CLASSES]>,
    /// The table was full once, or could not be read: what it has no room for is missing.
    is_short: bool,
}

impl Carried {
    /// Takes what the table holds now.
    pub fn take(&mut self, entries: io::Result<Vec<(u64, u64)>>) {
        self.is_short |= entries.as_ref().map_or(true, |entries| entries.len() >= CARRIED as usize);
        // Where nothing could be read, too: another site may have a number by now.
        self.by_site.clear();
        for (key, times) in entries.unwrap_or_default() {
            let (site, class) = carried_of(key);
            let of_site = self.by_site.entry(site).or_insert([0; SIZE_CLASSES]);
            if let Some(of_class) = of_site.get_mut(class as usize) {
                *of_class = times;
            }
        }
    }

    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// Counts `sizes`, a site's, on to what its words say. Fewer than [`CARRY`] of a class may have come since what was carried
    /// was read; more are missing until it is read again.
    pub fn follow(&self, site: u32, words: &[u64; WORDS], sizes: &mut SizeHistogram) {
        let carried = self.by_site.get(&site).copied().unwrap_or([0; SIZE_CLASSES]);
        for (class, times) in carried.into_iter().enumerate() {
            let known = sizes.0.get(class).copied().unwrap_or_default().max(times * CARRY);
            let now = known + (count(words, class as u32).wrapping_sub(known) & (CARRY - 1));
            if now == 0 {
                continue;
            }
            if sizes.0.len() <= class {
                sizes.0.resize(class + 1, 0);
            }
            sizes.0[class] = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptrace_common::sizes::{carried_key, place};

    fn words(counts: &[(u32, u64)]) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        for (class, count) in counts {
            let (word, shift) = place(*class);
            words[word] += count << shift;
        }
        words
    }

    #[test]
    fn what_was_carried_is_counted_and_nothing_twice() {
        let (mut carried, mut sizes) = (Carried::default(), SizeHistogram::default());
        carried.follow(7, &words(&[(1, 5), (3, CARRY - 1)]), &mut sizes);
        assert_eq!(sizes.0, [0, 5, 0, CARRY - 1]);
        // It went past what a class keeps, and that was not read yet; nor was it taken out.
        carried.follow(7, &words(&[(1, 5), (3, CARRY + 1)]), &mut sizes);
        assert_eq!(sizes.0, [0, 5, 0, CARRY + 1]);
        carried.take(Ok(vec![(carried_key(7, 3), 1), (carried_key(8, 1), 9)]));
        carried.follow(7, &words(&[(1, 5), (3, 1)]), &mut sizes);
        assert_eq!(sizes.0, [0, 5, 0, CARRY + 1]);
        // It went round several times between two readings.
        carried.take(Ok(vec![(carried_key(7, 3), 40)]));
        carried.follow(7, &words(&[(1, 5), (3, 2)]), &mut sizes);
        assert_eq!(sizes.0, [0, 5, 0, 40 * CARRY + 2]);
        assert!(!carried.is_short());
        carried.take(Err(io::Error::other("no")));
        carried.follow(7, &words(&[(1, 5), (3, 2)]), &mut sizes);
        assert!(carried.is_short() && sizes.0[3] == 40 * CARRY + 2);
    }
}
