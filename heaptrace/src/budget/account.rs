//! What tracing may still cost: earned as processor time passes, and spent by hits.

/// Nothing is saved up for longer. Probes that come and go by what was saved are there once in this time, whatever the
/// budget: it is as long as people average over, and many times what it takes to place probes and to take them away.
pub const PERIOD_NS: f64 = 10e9;

/// Who is less busy counts as if he were so much, or a short burst would be too much already.
const LEAST_RATE: f64 = 0.1;

/// Of the share, that is used: the rest is for what comes beside, as probes are taken away.
const USED: f64 = 0.9;

/// Times what can be saved. More is forgiven, or who was busy once would pay for it all day.
const MOST_OWED: f64 = 6.0;

/// See the module. All times are nanoseconds of processor time, but for `PERIOD_NS`.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// Of the processor time.
    share: f64,
    credit: f64,
    /// What was spent of late, from one look to the next.
    spent: f64,
    /// Processors that were busy, of late.
    rate: f64,
}

impl Account {
    /// With as much as may be saved.
    pub fn full(share: f64) -> Self {
        let share = share * USED;
        let mut account = Self { share, credit: 0.0, spent: 0.0, rate: LEAST_RATE };
        account.credit = account.capacity();
        account
    }

    /// `spent` is what tracing took of `cpu` within so much time.
    pub fn pass(&mut self, passed: f64, cpu: f64, spent: f64) {
        /// Of a second, until a change of the rate is half forgotten.
        const HALF_NS: f64 = 1e9;
        if passed > 0.0 {
            let weight = 1.0 - (-passed / HALF_NS).exp2();
            self.rate += (cpu / passed - self.rate) * weight;
        }
        self.spent = spent;
        let capacity = self.capacity();
        self.credit = (self.credit + self.share * cpu - spent).clamp(-MOST_OWED * capacity, capacity);
    }

    /// The most that is saved, and owed. Who runs on many processors earns and spends so many times as fast, and who rests most of
    /// the time is not to be slowed in what he does.
    fn capacity(&self) -> f64 {
        // Some is earned while it is spent.
        self.share * (1.0 - self.share) * PERIOD_NS * self.rate.max(LEAST_RATE)
    }

    /// Or will be before the middle of what comes until the next look: so that what is overspent in one is saved in another.
    pub fn is_spent(&self) -> bool {
        self.credit <= self.spent / 2.0
    }

    /// Whether there is as much as can be saved, but for what is lost in numbers.
    pub fn is_full(&self) -> bool {
        self.credit >= 0.99 * self.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one that keeps so many processors busy.
    fn busy(processors: f64) -> Account {
        let mut account = Account::full(0.05);
        for _ in 0..200 {
            account.pass(1e9, processors * 1e9, 0.0);
        }
        assert!(account.is_full() && !account.is_spent());
        account
    }

    #[test]
    fn what_is_spent_beyond_is_owed() {
        // Half a second of tracing is what ten seconds earn.
        let mut account = busy(1.0);
        account.pass(1e9, 1e9, 0.54e9);
        assert!(account.is_spent());
        account.pass(9e9, 9e9, 0.0);
        assert!(!account.is_spent() && !account.is_full());
        account.pass(2e9, 2e9, 0.0);
        assert!(account.is_full());
    }

    #[test]
    fn nothing_is_saved_or_owed_for_longer_than_the_period() {
        let mut account = busy(1.0);
        account.pass(1e12, 1e12, 0.0);
        account.pass(1e9, 1e9, 0.56e9);
        assert!(account.is_spent());
        account.pass(1e9, 1e9, 100e9);
        for _ in 0..80 {
            account.pass(1e9, 1e9, 0.0);
        }
        assert!(account.is_full());
    }

    #[test]
    fn what_is_saved_goes_with_what_is_done() {
        for (processors, saved) in [(8.0, 3.438e9), (1.0, 0.4297e9), (0.2, 0.0859e9), (0.001, 0.04297e9)] {
            let mut account = busy(processors);
            account.pass(0.0, 0.0, 0.9 * saved);
            account.pass(0.0, 0.0, 0.05 * saved);
            assert!(!account.is_spent(), "{processors}");
            account.pass(0.0, 0.0, 0.06 * saved);
            assert!(account.is_spent(), "{processors}");
        }
    }
}
