//! Blocks that come to what is known of a stack: how many it allocated in all, how many were live at the peak, and how many
//! in the end, with their bytes. Which block was which is not known.

use crate::model::Amount;

/// What becomes of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They come and go, and are there neither at the peak nor in the end.
    Passing,
    /// There at the peak, and not in the end.
    AtPeak,
    /// There at the peak and in the end.
    Kept,
    /// They come after the peak and stay.
    After,
}

impl Fate {
    const ALL: [Self; 4] = [Self::Passing, Self::AtPeak, Self::Kept, Self::After];
}

/// Equal blocks of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Number of their kind among those of the stack. Passing ones have the next one, too.
    pub kind: usize,
    pub size: u64,
    pub count: u64,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// By [`Fate`].
    groups: [Amount; 4],
}

impl Plan {
    /// As many blocks as possible are kept. Where no blocks come to such amounts, as in damaged recordings and in some
    /// estimates, `peak` is left out of account.
    pub fn new(all: Amount, peak: Amount, end: Amount) -> Self {
        let most = peak.count.min(end.count);
        // Where all blocks of one moment are to be there at the other, too, their bytes may be too many for that; with one
        // block less they are not.
        let kept = [Some(most), most.checked_sub(1)].into_iter().flatten();
        let fitting = kept.filter_map(|count| Some((count, kept_bytes(count, all, peak, end)?))).next();
        let (peak, kept) = match fitting {
            Some((count, bytes)) => (peak, Amount { bytes, count }),
            None => (end, end),
        };
        let at_peak = less(peak, kept);
        let after = less(end, kept);
        Self { groups: [less(less(less(all, kept), at_peak), after), at_peak, kept, after].map(possible) }
    }

    /// How many blocks there are.
    pub fn count(&self) -> u128 {
        self.groups.iter().map(|group| u128::from(group.count)).sum()
    }

    /// With as many blocks as `all` becomes `most` by, and the same bytes.
    pub fn scaled(mut self, most: u64, all: u128) -> Self {
        if all > most.into() {
            for group in self.groups.iter_mut().filter(|group| group.count > 0) {
                let scaled = u128::from(group.count) * u128::from(most) / all;
                group.count = u64::try_from(scaled).unwrap_or(u64::MAX).max(1);
            }
        }
        self
    }

    /// The sizes of all kinds of blocks, in the order of their numbers.
    pub fn kinds(&self) -> impl Iterator<Item = u64> {
        Fate::ALL.into_iter().flat_map(move |fate| {
            parts(self.groups[fate as usize])
                .flat_map(move |(size, _)| (0..kinds_of_each(fate)).map(move |_| size))
        })
    }

    /// The blocks of a fate.
    pub fn blocks(&self, fate: Fate) -> impl Iterator<Item = Blocks> {
        let before = Fate::ALL.into_iter().take_while(|other| *other != fate);
        let first: usize =
            before.map(|other| kinds_of_each(other) * parts(self.groups[other as usize]).count()).sum();
        (0..).zip(parts(self.groups[fate as usize])).map(move |(place, (size, count))| Blocks {
            kind: first + kinds_of_each(fate) * place,
            size,
            count,
        })
    }
}

const fn kinds_of_each(fate: Fate) -> usize {
    match fate {
        Fate::Passing => 2,
        Fate::AtPeak | Fate::Kept | Fate::After => 1,
    }
}

/// How many bytes of so many blocks may be there at the peak and in the end: the most, if any.
fn kept_bytes(count: u64, all: Amount, peak: Amount, end: Amount) -> Option<u64> {
    let passing = all.count.checked_add(count)?.checked_sub(peak.count.checked_add(end.count)?)?;
    // What passes has the rest of all bytes.
    let mut least = peak.bytes.checked_add(end.bytes)?.saturating_sub(all.bytes);
    let mut most = peak.bytes.min(end.bytes);
    if passing == 0 {
        most = most.min((peak.bytes + end.bytes).checked_sub(all.bytes)?);
    }
    if count == 0 {
        most = 0;
    }
    // No block is left for bytes to be in.
    for moment in [peak, end].into_iter().filter(|moment| moment.count == count) {
        least = least.max(moment.bytes);
    }
    (least <= most).then_some(most)
}

fn less(all: Amount, part: Amount) -> Amount {
    Amount { bytes: all.bytes.saturating_sub(part.bytes), count: all.count.saturating_sub(part.count) }
}

/// Bytes are in a block at least.
fn possible(Amount { bytes, count }: Amount) -> Amount {
    Amount { bytes, count: if bytes > 0 { count.max(1) } else { count } }
}

/// A size and how many have it: equal ones, but for what does not divide.
fn parts(Amount { bytes, count }: Amount) -> impl Iterator<Item = (u64, u64)> {
    let (size, larger) = (bytes.checked_div(count).unwrap_or(0), bytes.checked_rem(count).unwrap_or(0));
    [(size.saturating_add(1), larger), (size, count - larger)].into_iter().filter(|(_, count)| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(plan: &Plan, fates: &[Fate]) -> Amount {
        let mut sum = Amount::default();
        for blocks in fates.iter().flat_map(|fate| plan.blocks(*fate)) {
            sum.add(Amount { bytes: blocks.size * blocks.count, count: blocks.count });
        }
        sum
    }

    const ALL: [Fate; 4] = Fate::ALL;
    const PEAK: [Fate; 2] = [Fate::AtPeak, Fate::Kept];
    const END: [Fate; 2] = [Fate::Kept, Fate::After];

    proptest! {
        /// Any blocks, of which some were there at the peak, and some in the end.
        #[test]
        fn blocks_come_to_what_is_known(blocks in prop::collection::vec((0_u64..1_000, any::<bool>(), any::<bool>()), 0..20)) {
            let of = |wanted: &dyn Fn(bool, bool) -> bool| {
                let mut sum = Amount::default();
                for (bytes, at_peak, in_end) in &blocks {
                    if wanted(*at_peak, *in_end) {
                        sum.add(Amount { bytes: *bytes, count: 1 });
                    }
                }
                sum
            };
            let (all, peak, end) = (of(&|_, _| true), of(&|peak, _| peak), of(&|_, end| end));
            let plan = Plan::new(all, peak, end);
            prop_assert_eq!([sum(&plan, &ALL), sum(&plan, &PEAK), sum(&plan, &END)], [all, peak, end]);
        }

        #[test]
        fn whatever_is_claimed_the_end_is_right(all in (0_u64..1 << 40, 0_u64..1_000), peak in (0_u64..1 << 40, 0_u64..1_000), end in (0_u64..1 << 40, 1_u64..1_000)) {
            let [all, peak, end] = [all, peak, end].map(|(bytes, count)| Amount { bytes, count });
            let plan = Plan::new(all, peak, end);
            prop_assert_eq!(sum(&plan, &END), end);
            prop_assert!(plan.count() >= all.count.max(end.count).into());
        }

        #[test]
        fn kinds_are_numbered_as_blocks_have_them(all in 0_u64..10_000, count in 0_u64..50, end in 0_u64..5_000) {
            let plan = Plan::new(
                Amount { bytes: all + end, count: count + 3 },
                Amount { bytes: all / 2, count: count / 2 },
                Amount { bytes: end, count: 3 },
            );
            let kinds: Vec<u64> = plan.kinds().collect();
            let mut next = 0;
            for fate in ALL {
                for blocks in plan.blocks(fate) {
                    prop_assert_eq!(blocks.kind, next);
                    next += kinds_of_each(fate);
                    for size in &kinds[blocks.kind..next] {
                        prop_assert_eq!(*size, blocks.size);
                    }
                }
            }
            prop_assert_eq!(next, kinds.len());
        }
    }

    #[test]
    fn fewer_blocks_have_the_same_bytes() {
        let end = Amount { bytes: 5_000_001, count: 2_000 };
        let plan = Plan::new(Amount { bytes: u64::MAX, count: u64::MAX }, end, end);
        let scaled = plan.scaled(1_000_000, plan.count());
        assert_eq!(sum(&scaled, &END).bytes, 5_000_001);
        assert!((999_000..1_001_000).contains(&scaled.count()), "{}", scaled.count());
        let few = plan.scaled(u64::MAX, plan.count().min(u64::MAX.into()));
        assert_eq!(few, plan);
    }

    #[test]
    fn however_many_are_claimed_there_are_as_many_as_asked_for() {
        let plan = Plan::new(Amount { bytes: 1, count: u64::MAX }, Amount::default(), Amount::default());
        let all: u128 = (0..1_000).map(|_| plan.count()).sum();
        let scaled = plan.scaled(1_000_000, all);
        assert!((1..=1_001).contains(&scaled.count()), "{}", scaled.count());
    }
}
