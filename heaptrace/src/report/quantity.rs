//! Bytes and blocks of a report's rows and sums: counted, or estimated from samples. One type for both, so that no sum takes an
//! estimate for a count: what is counted can become part of an estimate, and an estimate no part of a count.

use crate::model::{Amount, Estimate};

/// How sure bytes and count are, where blocks are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimated {
    pub bytes: Estimate,
    pub count: Estimate,
}

impl Estimated {
    fn certain(Amount { bytes, count }: Amount) -> Self {
        Self { bytes: Estimate::certain(bytes), count: Estimate::certain(count) }
    }

    /// With an independent part.
    pub fn with(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, count: self.count + other.count }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Quantity {
    Exact(Amount),
    /// What is shown, and how sure it is: apart, as there may be very many without.
    Estimated(Amount, Box<Estimated>),
}

impl Default for Quantity {
    fn default() -> Self {
        Self::Exact(Amount::default())
    }
}

impl Quantity {
    /// `sure`: where it is estimated.
    pub fn new(amount: Amount, sure: Option<Estimated>) -> Self {
        match sure {
            Some(sure) => Self::Estimated(amount, Box::new(sure)),
            None => Self::Exact(amount),
        }
    }

    /// What is shown.
    pub fn amount(&self) -> Amount {
        match self {
            Self::Exact(amount) | Self::Estimated(amount, _) => *amount,
        }
    }

    /// `None` of what was counted.
    pub fn estimated(&self) -> Option<&Estimated> {
        match self {
            Self::Exact(_) => None,
            Self::Estimated(_, sure) => Some(sure),
        }
    }

    /// Adds an independent part.
    pub fn add(&mut self, part: &Self) {
        let mut amount = self.amount();
        amount.add(part.amount());
        *self = match (&*self, part) {
            (Self::Exact(_), Self::Exact(_)) => Self::Exact(amount),
            (Self::Estimated(_, sure), Self::Estimated(_, of_part)) => {
                Self::Estimated(amount, Box::new(sure.with(**of_part)))
            }
            (Self::Exact(counted), Self::Estimated(_, sure))
            | (Self::Estimated(_, sure), Self::Exact(counted)) => {
                Self::Estimated(amount, Box::new(sure.with(Estimated::certain(*counted))))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Apart, Sums};

    const MEAN: u64 = 1 << 19;

    fn counted(bytes: u64, count: u64) -> Quantity {
        Quantity::Exact(Amount { bytes, count })
    }

    fn sampled(size: u64) -> Quantity {
        let (sums, apart) = (Sums::of(size, MEAN), Apart::chosen(MEAN));
        let sure = Estimated { bytes: Estimate::bytes(&sums, apart), count: Estimate::count(&sums, apart) };
        Quantity::new(Amount { bytes: sums.weights.bytes, count: 1 }, Some(sure))
    }

    fn sum(parts: &[Quantity]) -> Quantity {
        let mut sum = Quantity::default();
        parts.iter().for_each(|part| sum.add(part));
        sum
    }

    #[test]
    fn counts_stay_counts_and_with_an_estimate_they_are_one() {
        assert_eq!(sum(&[counted(3, 1), counted(5, 2)]), counted(8, 3));
        let mixed = sum(&[counted(3000, 2), sampled(64), counted(500, 1)]);
        assert_eq!(mixed, sum(&[sampled(64), counted(3500, 3)]));
        let (alone, mixed) = (sampled(64), mixed.estimated().copied().expect("an estimate"));
        let alone = alone.estimated().copied().expect("an estimate");
        // What was counted is there for certain, and makes the rest no surer.
        let [(low, high), (from, to)] = [alone.bytes.interval95(), mixed.bytes.interval95()];
        assert_eq!((from, to), (low + 3500, high + 3500));
        assert_eq!(mixed.bytes.samples, alone.bytes.samples);
    }

    #[test]
    fn the_sum_of_estimates_is_surer_than_its_parts() {
        let parts: Vec<Quantity> = (0..16).map(|n| sampled(4096 + n)).collect();
        let off = |of: &Quantity| {
            let Estimated { bytes, .. } = *of.estimated().expect("an estimate");
            (bytes.interval95().1 as f64 - bytes.value) / bytes.value
        };
        assert!(off(&sum(&parts)) < off(&parts[0]) / 3.0);
    }
}
