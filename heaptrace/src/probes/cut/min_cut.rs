//! Minimum cuts of directed networks, by Dinic's algorithm.

use std::collections::VecDeque;

/// A capacity that no cut may cross.
pub const ENDLESS: u64 = 1 << 40;

struct Arc {
    to: usize,
    room: u64,
}

pub struct Network {
    /// Each with its reverse behind it.
    arcs: Vec<Arc>,
    from: Vec<Vec<usize>>,
}

impl Network {
    pub fn new(nodes: usize) -> Self {
        Self { arcs: Vec::new(), from: vec![Vec::new(); nodes] }
    }

    /// An arc, with `back` as the capacity of the other direction.
    pub fn add(&mut self, from: usize, to: usize, capacity: u64, back: u64) {
        self.from[from].push(self.arcs.len());
        self.arcs.push(Arc { to, room: capacity.min(ENDLESS) });
        self.from[to].push(self.arcs.len());
        self.arcs.push(Arc { to: from, room: back.min(ENDLESS) });
    }

    /// The weight of a cut between `source` and `sink`, and its far side: of all minimum cuts the one nearest to the
    /// sink. `None` if each crosses an endless arc.
    pub fn min_cut(mut self, source: usize, sink: usize) -> Option<(u64, Vec<bool>)> {
        let mut flow = 0;
        while let Some(levels) = self.levels(source, sink) {
            let mut next = vec![0; self.from.len()];
            loop {
                let pushed = self.push(source, sink, &levels, &mut next);
                if pushed == 0 {
                    break;
                }
                flow += pushed;
                if flow >= ENDLESS {
                    return None;
                }
            }
        }
        Some((flow, self.far_side(sink)))
    }

    fn levels(&self, source: usize, sink: usize) -> Option<Vec<usize>> {
        let mut levels = vec![usize::MAX; self.from.len()];
        levels[source] = 0;
        let mut waiting = VecDeque::from([source]);
        while let Some(node) = waiting.pop_front() {
            for arc in self.from[node].iter().map(|arc| &self.arcs[*arc]) {
                if arc.room > 0 && levels[arc.to] == usize::MAX {
                    levels[arc.to] = levels[node] + 1;
                    waiting.push_back(arc.to);
                }
            }
        }
        (levels[sink] != usize::MAX).then_some(levels)
    }

    /// Sends as much as one path takes; 0 if there is none.
    fn push(&mut self, source: usize, sink: usize, levels: &[usize], next: &mut [usize]) -> u64 {
        let mut path: Vec<usize> = Vec::new();
        let mut node = source;
        while node != sink {
            match self.from[node].get(next[node]) {
                Some(&arc) => {
                    let Arc { to, room } = self.arcs[arc];
                    if room > 0 && levels[to] == levels[node] + 1 {
                        path.push(arc);
                        node = to;
                    } else {
                        next[node] += 1;
                    }
                }
                None => {
                    let Some(arc) = path.pop() else { return 0 };
                    node = self.arcs[arc ^ 1].to;
                    next[node] += 1;
                }
            }
        }
        let amount = path.iter().map(|arc| self.arcs[*arc].room).min().unwrap_or(0);
        for arc in path {
            self.arcs[arc].room -= amount;
            self.arcs[arc ^ 1].room += amount;
        }
        amount
    }

    /// What can still send to the sink.
    fn far_side(&self, sink: usize) -> Vec<bool> {
        let mut far = vec![false; self.from.len()];
        far[sink] = true;
        let mut waiting = vec![sink];
        while let Some(node) = waiting.pop() {
            for arc in &self.from[node] {
                let (from, reverse) = (self.arcs[*arc].to, &self.arcs[*arc ^ 1]);
                if reverse.room > 0 && !std::mem::replace(&mut far[from], true) {
                    waiting.push(from);
                }
            }
        }
        far
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cheapest_arcs_are_cut() {
        // 0 -> 1 -> 3 and 0 -> 2 -> 3
        let mut network = Network::new(4);
        network.add(0, 1, 10, 0);
        network.add(1, 3, 7, 0);
        network.add(0, 2, 3, 0);
        network.add(2, 3, 5, 0);
        assert_eq!(network.min_cut(0, 3), Some((10, vec![false, false, true, true])));
    }

    #[test]
    fn a_cut_that_no_arc_allows_is_none() {
        let mut network = Network::new(2);
        network.add(0, 1, ENDLESS, 0);
        assert_eq!(network.min_cut(0, 1), None);
    }

    #[test]
    fn the_far_side_has_no_way_back_where_that_is_endless() {
        // 0 -> 1 -> 2 -> 3, and 2 -> 1: only outside of the circle it is crossed once.
        let mut network = Network::new(4);
        network.add(0, 1, 20, ENDLESS);
        network.add(1, 2, 1, ENDLESS);
        network.add(2, 1, 1, ENDLESS);
        network.add(2, 3, 30, ENDLESS);
        assert_eq!(network.min_cut(0, 3), Some((20, vec![false, true, true, true])));
    }

    proptest! {
        #[test]
        fn the_cut_weighs_what_it_crosses(arcs in prop::collection::vec((0..8usize, 0..8usize, 0..20u64), 0..40)) {
            let mut network = Network::new(8);
            for (from, to, weight) in &arcs {
                network.add(*from, *to, *weight, 0);
            }
            let (weight, far) = network.min_cut(0, 7).expect("a cut");
            prop_assert!(far[7]);
            let crossed: u64 = arcs.iter().filter(|(from, to, _)| !far[*from] && far[*to]).map(|arc| arc.2).sum();
            prop_assert_eq!((weight, far[0]), (crossed, false));
        }
    }
}
