//! Which processes grow: by so many bytes, within so long.

use std::{collections::VecDeque, time::Duration};

/// How fast is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growing {
    pub bytes: u64,
    pub within: Duration,
}

impl Growing {
    pub fn within_ns(self) -> u64 {
        u64::try_from(self.within.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// By how much a process has grown within the time that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    pub bytes: u64,
}

/// Sizes that are kept of a process: how sharply the time is taken.
const KEPT: u32 = 32;

/// Watches one process. Times are nanoseconds of one clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// When, and how large it was: the least of each part of the time.
    sizes: VecDeque<(u64, u64)>,
    until_ns: Option<u64>,
}

impl Watch {
    /// It has this size now. Gives by how much it has grown if that is enough and it was not known to grow.
    pub fn look(&mut self, growing: Growing, now_ns: u64, bytes: u64) -> Option<Grown> {
        let within_ns = growing.within_ns();
        while self.sizes.front().is_some_and(|(at, _)| now_ns.saturating_sub(*at) > within_ns) {
            self.sizes.pop_front();
        }
        let least = self.sizes.iter().map(|(_, size)| *size).min().unwrap_or(bytes);
        match self.sizes.back_mut() {
            Some((at, least)) if now_ns.saturating_sub(*at) < within_ns / u64::from(KEPT) => {
                *least = bytes.min(*least);
            }
            _ => self.sizes.push_back((now_ns, bytes)),
        }
        let grown = bytes.saturating_sub(least);
        if grown < growing.bytes {
            return None;
        }
        let was_known = self.grows(now_ns);
        self.until_ns = Some(now_ns.saturating_add(within_ns));
        (!was_known).then_some(Grown { bytes: grown })
    }

    /// Whether it grows: it did within the time that was asked for.
    pub fn grows(&self, now_ns: u64) -> bool {
        self.until_ns.is_some_and(|until_ns| now_ns < until_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const GROWING: Growing = Growing { bytes: 1000, within: Duration::from_secs(60) };

    /// Looks once a second; gives when growth was told of, and when it was over.
    fn run(seconds: u64, size: impl Fn(u64) -> u64) -> (Vec<u64>, Vec<u64>) {
        let mut watch = Watch::default();
        let (mut told, mut over, mut grew) = (Vec::new(), Vec::new(), false);
        for at in 0..seconds {
            if watch.look(GROWING, at * SECOND, size(at)).is_some() {
                told.push(at);
            }
            let grows = watch.grows(at * SECOND);
            if grew && !grows {
                over.push(at);
            }
            grew = grows;
        }
        (told, over)
    }

    #[test]
    fn what_grows_fast_enough_is_told_of_once() {
        // 20 a second: 1000 after 50 s, and on and on.
        assert_eq!(run(600, |at| 5000 + 20 * at), (vec![50], vec![]));
        // 16 a second are 960 a minute.
        assert_eq!(run(600, |at| 16 * at), (vec![], vec![]));
    }

    #[test]
    fn what_comes_and_goes_is_told_of_as_often_as_it_comes() {
        let (told, over) = run(1000, |at| if (100..300).contains(&at) || at >= 700 { 2000 } else { 0 });
        assert_eq!(told, [100, 700]);
        // As long as the growth lies within the time, and the time once more.
        assert!(over.len() == 2 && (215..=221).contains(&over[0]), "{over:?}");
    }

    #[test]
    fn growth_counts_from_the_least_size() {
        // A sawtooth that ends where it began grows each time.
        assert_eq!(run(59, |at| if at < 30 { 3000 - 100 * at } else { 100 * at - 2900 }).0, [40]);
        assert!(run(600, |at| 1000 - at).0.is_empty());
    }

    #[test]
    fn it_takes_little_room_however_often_it_looks() {
        let mut watch = Watch::default();
        for n in 0..100_000 {
            watch.look(GROWING, n * SECOND / 10, n);
        }
        assert!(watch.sizes.len() <= KEPT as usize + 1);
    }
}
