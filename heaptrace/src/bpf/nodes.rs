//! The tree of stacks as userspace has it: stacks read, and nodes that no site has any more taken out. What the tree is:
//! `heaptrace_common::tree`.

use super::chunks::Chunks;
use heaptrace_common::tree::{self, CHUNK_LINES, DYING, Line, Node, ROOT, WAYS};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// See the module.
pub(super) struct Nodes(pub Chunks<Line>);

/// Nodes that something leads to, by number.
pub(super) struct Marks(Vec<u64>);

impl Marks {
    fn of(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 != 0)
    }

    /// Whether it was not marked before.
    fn set(&mut self, number: u32) -> bool {
        let Some(word) = self.0.get_mut(number as usize / 64) else { return false };
        let before = *word;
        *word |= 1 << (number % 64);
        *word != before
    }
}

impl Nodes {
    /// The addresses of a stack of `count` frames, innermost first, from its innermost node on.
    pub fn frames(&self, innermost: u32, count: u8) -> Vec<u64> {
        let mut frames = Vec::with_capacity(count.into());
        let mut number = innermost;
        while frames.len() < count.into()
            && let Some(Node { address, link }) = self.node(number)
            && let Some(caller) = tree::caller(link)
        {
            frames.push(address);
            number = caller;
        }
        frames
    }

    /// The nodes of the stacks with these innermost nodes.
    pub fn mark(&self, innermost: impl Iterator<Item = u32>) -> Marks {
        let numbers = self.0.count() as usize * CHUNK_LINES as usize * WAYS + 1;
        let mut marks = Marks(vec![0; numbers.div_ceil(64)]);
        for mut number in innermost {
            while number != ROOT
                && marks.set(number)
                && let Some(caller) = self.node(number).and_then(|node| tree::caller(node.link))
            {
                number = caller;
            }
        }
        marks
    }

    /// Takes those out of sight that are not marked. Who has found one before may still make use of it.
    pub fn hide(&self, marks: &Marks) {
        for (number, link) in self.links() {
            let held = link.load(Ordering::Acquire);
            if tree::caller(held).is_some() && held & DYING == 0 && !marks.of(number) {
                let _ = link.compare_exchange(held, held | DYING, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// Frees the places of those out of sight that are still not marked, and brings the others back. Once no program runs that
    /// began before they went out of sight. How many went, by share.
    pub fn free_hidden(&self, marks: &Marks) -> HashMap<u32, u32> {
        let mut freed: HashMap<u32, u32> = HashMap::new();
        for (number, link) in self.links() {
            let held = link.load(Ordering::Acquire);
            if tree::caller(held).is_none() || held & DYING == 0 {
                continue;
            }
            // Nobody else changes the link of a node that is made.
            if marks.of(number) {
                link.store(held & !DYING, Ordering::Release);
            } else {
                *freed.entry(tree::share(held)).or_default() += 1;
                link.store(0, Ordering::Release);
            }
        }
        freed
    }

    fn node(&self, number: u32) -> Option<Node> {
        let (chunk, line, way) = tree::place(number)?;
        let line = self.0.pointer(chunk.checked_mul(CHUNK_LINES)? + line)?;
        // SAFETY: within the line, which is mapped as long as the table; plain data.
        Some(unsafe { (&raw const (*line)[way]).read_volatile() })
    }

    fn links(&self) -> impl Iterator<Item = (u32, &AtomicU64)> {
        let places = self.0.pointers().flat_map(|line| (0..WAYS).map(move |way| (line, way)));
        (1_u32..).zip(places).map(|(number, (line, way))| {
            // SAFETY: within the line, which is mapped as long as the table; all who write it do so by whole words.
            (number, unsafe { AtomicU64::from_ptr(&raw mut (*line)[way].link) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node, as the kernel side makes it.
    fn make(nodes: &Nodes, number: u32, caller: u32, share: u32) {
        let (chunk, line, way) = tree::place(number).expect("a node");
        let line = nodes.0.pointer(chunk * CHUNK_LINES + line).expect("a line");
        let link = tree::with_share(tree::link(caller), share);
        // SAFETY: within the line, and nobody else is at it.
        unsafe { (*line)[way] = Node { address: 0x1000 + u64::from(number), link } };
    }

    /// 1 is called by nobody, 2 and 3 by 1, 4 by 2, 9 by 3.
    fn tree() -> Nodes {
        let nodes = Nodes(Chunks::in_memory(CHUNK_LINES, 1));
        for (number, caller) in [(1, ROOT), (2, 1), (3, 1), (4, 2), (9, 3)] {
            make(&nodes, number, caller, 70 + number);
        }
        nodes
    }

    fn numbers(nodes: &Nodes) -> Vec<u32> {
        nodes
            .links()
            .filter(|(_, link)| link.load(Ordering::Relaxed) != 0)
            .map(|(number, _)| number)
            .collect()
    }

    #[test]
    fn what_no_stack_has_goes_and_is_booked_to_its_share() {
        let nodes = tree();
        nodes.hide(&nodes.mark([4].into_iter()));
        assert_eq!(nodes.frames(4, 9), [0x1004, 0x1002, 0x1001]);
        let freed = nodes.free_hidden(&nodes.mark([4].into_iter()));
        assert_eq!(freed, HashMap::from([(73, 1), (79, 1)]));
        assert_eq!(numbers(&nodes), [1, 2, 4]);
    }

    #[test]
    fn what_a_program_had_found_before_it_went_out_of_sight_comes_back_with_its_callers() {
        let nodes = tree();
        nodes.hide(&nodes.mark([4].into_iter()));
        // Below 9 a node was made meanwhile, and a site of it.
        make(&nodes, 20, 9, 5);
        let freed = nodes.free_hidden(&nodes.mark([4, 20].into_iter()));
        assert_eq!((freed.len(), numbers(&nodes)), (0, vec![1, 2, 3, 4, 9, 20]));
        let hidden = nodes.links().filter(|(_, link)| link.load(Ordering::Relaxed) & DYING != 0).count();
        assert_eq!(hidden, 0);
        // What is made meanwhile and has no site yet is not looked at.
        nodes.hide(&nodes.mark([4].into_iter()));
        make(&nodes, 21, 2, 5);
        nodes.free_hidden(&nodes.mark([4].into_iter()));
        assert_eq!(numbers(&nodes), [1, 2, 4, 21]);
    }
}
