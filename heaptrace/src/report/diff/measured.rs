//! A number and how sure it is, for differences.

use crate::model::Estimate;

/// Between `low` and `high` lies the truth, 95 times in 100; all three are one where it is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Measured {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Measured {
    pub fn exact(number: u64) -> Self {
        let value = number as f64;
        Self { value, low: value, high: value }
    }

    /// What is shown is `number`, and how sure it is `estimate` says.
    pub fn estimated(number: u64, estimate: &Estimate) -> Self {
        let value = number as f64;
        let (low, high) = estimate.interval95();
        Self { value, low: (low as f64).min(value), high: (high as f64).max(value) }
    }

    /// Of what may be less, nobody knows by how much.
    pub fn at_most(number: u64) -> Self {
        Self { low: 0.0, ..Self::exact(number) }
    }

    pub fn is_exact(self) -> bool {
        self.low == self.high
    }

    /// Of one of `count` (above 0).
    pub fn per(self, count: f64) -> Self {
        Self { value: self.value / count, low: self.low / count, high: self.high / count }
    }

    /// The difference to an independent number: its interval comes of the two by the distances that they have on each side
    /// (the method of variance estimates recovery: Zou and Donner, 2008, Statistics in Medicine 27).
    pub fn minus(self, before: Self) -> Self {
        let value = self.value - before.value;
        let below = (self.value - self.low).hypot(before.high - before.value);
        let above = (self.high - self.value).hypot(before.value - before.low);
        Self { value, low: value - below, high: value + above }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exact_numbers_differ_exactly_and_estimates_by_both_intervals() {
        let (ten, four) = (Measured::exact(10), Measured::exact(4));
        assert_eq!(ten.minus(four), Measured::exact(6));
        assert_eq!(four.minus(ten), Measured { value: -6.0, low: -6.0, high: -6.0 });
        let after = Measured { value: 100.0, low: 70.0, high: 150.0 };
        let before = Measured { value: 50.0, low: 20.0, high: 90.0 };
        let change = after.minus(before);
        assert_eq!((change.value, change.low), (50.0, 0.0), "30 and 40 are 50");
        assert!((change.high - (50.0 + 50_f64.hypot(30.0))).abs() < 1e-9);
        assert_eq!(after.minus(ten).low, 60.0);
    }

    proptest! {
        #[test]
        fn a_difference_lies_in_its_interval_and_turns_around(
            a in 0.0..1e12_f64, a_off in 0.0..1e12_f64, b in 0.0..1e12_f64, b_off in 0.0..1e12_f64,
        ) {
            let of = |value: f64, off: f64| Measured { value, low: value - off / 2.0, high: value + off };
            let (there, back) = (of(a, a_off).minus(of(b, b_off)), of(b, b_off).minus(of(a, a_off)));
            prop_assert!(there.low <= there.value && there.value <= there.high);
            prop_assert!((there.low + back.high).abs() < 1.0 && (there.high + back.low).abs() < 1.0);
        }
    }
}
