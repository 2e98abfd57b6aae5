//! What the kernel's counters say.

use heaptrace_common::counter::Counter;

/// By [`Counter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Counter::COUNT]);

impl Counts {
    pub fn new(count: impl Fn(Counter) -> u64) -> Self {
        Self(Counter::ALL.map(count))
    }

    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    pub fn add(&mut self, counter: Counter, count: u64) {
        let sum = &mut self.0[counter as usize];
        *sum = sum.saturating_add(count);
    }

    /// The counters of what is missing from the numbers, zero or not, in a stable order.
    pub fn losses(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL
            .into_iter()
            .filter(|counter| is_loss(*counter))
            .map(|counter| (counter, self.get(counter)))
    }

    /// All losses together.
    pub fn lost(&self) -> u64 {
        self.losses().fold(0, |sum, (_, count)| sum.saturating_add(count))
    }
}

/// Whether what is counted is missing from the numbers, or set aside because it belongs in none.
const fn is_loss(counter: Counter) -> bool {
    match counter {
        Counter::LiveMapFull
        | Counter::SiteTableFull
        | Counter::PendingFull
        | Counter::RingFull
        | Counter::ProcessTableFull
        | Counter::ScratchBusy
        | Counter::ResultUnreadable
        | Counter::GrowthSiteFull
        | Counter::Disagreed
        | Counter::Unfollowed => true,
        Counter::MissedReturn | Counter::UnpairedReturn | Counter::Nested => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_its_place_and_what_is_set_aside_is_no_loss() {
        let counts = Counts::new(|counter| 1 << counter as u32);
        for counter in Counter::ALL {
            assert_eq!(counts.get(counter), 1 << counter as u32);
        }
        let aside = [Counter::MissedReturn, Counter::UnpairedReturn, Counter::Nested];
        let aside: u64 = aside.into_iter().map(|counter| counts.get(counter)).sum();
        assert_eq!(counts.lost() + aside, (1 << Counter::COUNT) - 1);
    }
}
