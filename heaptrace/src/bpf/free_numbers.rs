//! Numbers that are given back to the kernel side, by a ring from which it takes them: as many as there are places at one
//! time, and the others when there is room.

use super::{array::SharedArray, error::LoadError, taken::take_array};
use aya::Ebpf;
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

/// See the module.
pub(super) struct FreeNumbers {
    ring: SharedArray<u64>,
    /// Those that found no place yet.
    waiting: VecDeque<u32>,
    /// Taken ones that the caller has been told of.
    told: u64,
    /// All below were told of when they were taken for the first time.
    told_first: u32,
}

/// How many were given back so far, and how many of them were taken: fields of `Cursors`.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub given: &'a AtomicU64,
    pub taken: &'a AtomicU64,
}

impl FreeNumbers {
    /// The ring `name`, which has so many `places`: a power of two.
    pub fn take(ebpf: &mut Ebpf, name: &str, places: u32) -> Result<Self, LoadError> {
        Ok(Self { ring: take_array(ebpf, name, places)?, waiting: VecDeque::new(), told: 0, told_first: 0 })
    }

    /// Gives numbers back of which nothing is left anywhere.
    pub fn give(&mut self, numbers: impl IntoIterator<Item = u32>, ends: Ends<'_>) {
        self.waiting.extend(numbers);
        let mut given = ends.given.load(Ordering::Acquire);
        // A place is free once the caller has been told what was taken from it.
        while given.wrapping_sub(self.told) < u64::from(self.ring.entries)
            && let Some(number) = self.waiting.pop_front()
        {
            self.ring.set(self.place(given), number.into());
            given += 1;
        }
        ends.given.store(given, Ordering::Release);
    }

    /// The numbers that have been taken since the last call: for the first time, of which there are `made` so far, and from the
    /// ring, which has places for others then.
    pub fn taken(&mut self, made: u32, ends: Ends<'_>) -> Vec<u32> {
        let first = self.told_first..made;
        self.told_first = made;
        let again = self.told..ends.taken.load(Ordering::Acquire);
        self.told = again.end;
        let again = again.filter_map(|at| Some(self.ring.get(self.place(at))? as u32));
        let taken = first.chain(again).collect();
        self.give([], ends);
        taken
    }

    /// Takes one for ourselves, as the kernel side does.
    pub fn take_one(&self, ends: Ends<'_>) -> Option<u32> {
        loop {
            let at = ends.taken.load(Ordering::Acquire);
            if at == ends.given.load(Ordering::Acquire) {
                return None;
            }
            let number = self.ring.get(self.place(at))?;
            if ends.taken.compare_exchange(at, at + 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Some(number as u32);
            }
        }
    }

    fn place(&self, count: u64) -> u32 {
        count as u32 & (self.ring.entries - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: u32 = 4;

    fn ring() -> (FreeNumbers, [AtomicU64; 2]) {
        let ring = SharedArray::in_memory(PLACES);
        (
            FreeNumbers { ring, waiting: VecDeque::new(), told: 0, told_first: 0 },
            [AtomicU64::new(0), AtomicU64::new(0)],
        )
    }

    #[test]
    fn what_is_given_back_is_taken_once_in_order_and_told_of_once() {
        let (mut free, [given, taken]) = ring();
        let ends = Ends { given: &given, taken: &taken };
        assert_eq!(free.take_one(ends), None);
        free.give(0..10, ends);
        let mut seen = Vec::new();
        for round in 0..6 {
            for _ in 0..round % 3 {
                seen.extend(free.take_one(ends));
            }
            assert_eq!(free.taken(0, ends).len(), round % 3, "{round}");
            free.give([], ends);
        }
        assert_eq!(seen, (0..6).collect::<Vec<u32>>());
    }

    #[test]
    fn a_place_is_used_again_once_its_number_was_told_of() {
        let (mut free, [given, taken]) = ring();
        let ends = Ends { given: &given, taken: &taken };
        free.give(10..20, ends);
        for number in 10..14 {
            assert_eq!(free.take_one(ends), Some(number));
        }
        // All are taken, but who asks what was must find it.
        free.give([], ends);
        assert_eq!((free.take_one(ends), free.taken(0, ends)), (None, vec![10, 11, 12, 13]));
        free.give([], ends);
        assert_eq!(free.take_one(ends), Some(14));
    }
}
