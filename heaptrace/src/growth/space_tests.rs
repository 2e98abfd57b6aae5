//! Calls against a table of pages that is changed as the kernel would.

use super::*;
use proptest::prelude::*;

const PAGE: u64 = 4096;
const PAGES: u64 = 40;

/// Page 0 up to here is for brk; the rest for the others.
const BREAK_PAGES: u64 = 8;

fn at(page: u64) -> u64 {
    page * PAGE
}

fn when(entered_ns: u64, left_ns: u64) -> When {
    When { entered_ns, left_ns }
}

fn mmap(page: u64, pages: u64, fixed: bool) -> Call {
    Call::Mmap { at: at(page), length: at(pages), kind: Kind::Anonymous, fixed }
}

fn munmap(page: u64, pages: u64) -> Call {
    Call::Munmap { at: at(page), length: at(pages) }
}

/// Pages that are mapped.
#[derive(Clone, Debug)]
struct Model {
    pages: Vec<bool>,
    break_at: u64,
}

impl Model {
    fn new() -> Self {
        Self { pages: vec![false; PAGES as usize], break_at: 0 }
    }

    fn bytes(&self) -> u64 {
        at(self.pages.iter().filter(|mapped| **mapped).count() as u64)
    }

    fn set(&mut self, page: u64, pages: u64, mapped: bool) {
        self.pages[page as usize..(page + pages) as usize].fill(mapped);
    }

    /// The first free place for so many pages.
    fn free(&self, pages: u64) -> Option<u64> {
        (BREAK_PAGES..=PAGES.saturating_sub(pages))
            .find(|page| self.pages[*page as usize..(page + pages) as usize].iter().all(|mapped| !mapped))
    }

    fn is_mapped(&self, page: u64, pages: u64) -> bool {
        page + pages <= PAGES
            && self.pages[page as usize..(page + pages) as usize].iter().all(|mapped| *mapped)
    }

    /// What the kernel makes of a random wish; `None` if it refuses.
    fn call(&mut self, (which, page, pages, more): (u8, u64, u64, u64)) -> Option<Call> {
        let page = BREAK_PAGES + page % (PAGES - BREAK_PAGES);
        let pages = pages.min(PAGES - page);
        match which {
            0 => {
                let old = self.break_at;
                self.break_at = (page * 977) % at(BREAK_PAGES);
                let (from, to) = (old.div_ceil(PAGE), self.break_at.div_ceil(PAGE));
                self.set(from.min(to), from.abs_diff(to), to > from);
                Some(Call::Brk { old, new: self.break_at })
            }
            1 => {
                let free = self.free(pages)?;
                self.set(free, pages, true);
                Some(mmap(free, pages, false))
            }
            2 => {
                self.set(page, pages, true);
                Some(mmap(page, pages, true))
            }
            3 => {
                self.set(page, pages, false);
                Some(munmap(page, pages))
            }
            // Where the mapping is, if it shrinks; else where there is room.
            4 => {
                if !self.is_mapped(page, pages) {
                    return None;
                }
                let new = if more <= pages { page } else { self.free(more)? };
                self.set(page, pages, false);
                self.set(new, more, true);
                let (old, old_length, length) = (at(page), at(pages), at(more));
                Some(Call::Mremap { old, old_length, new: at(new), length, keeps_old: false, fixed: false })
            }
            // In place, if the room behind is free.
            5 => {
                let tail = page + pages + more <= PAGES
                    && self.pages[(page + pages) as usize..(page + pages + more) as usize].iter().all(|m| !m);
                if !tail || !self.is_mapped(page, pages) {
                    return None;
                }
                self.set(page + pages, more, true);
                let (old, old_length, length) = (at(page), at(pages), at(pages + more));
                Some(Call::Mremap { old, old_length, new: old, length, keeps_old: false, fixed: false })
            }
            // To a place that is given, whatever is there; the two must not overlap (EINVAL).
            _ => {
                let new = BREAK_PAGES + more * 7 % (PAGES - BREAK_PAGES - pages + 1);
                let apart = new + pages <= page || page + pages <= new;
                if !apart || !self.is_mapped(page, pages) {
                    return None;
                }
                let keeps_old = more % 2 == 0;
                self.set(page, pages, keeps_old);
                self.set(new, pages, true);
                let length = at(pages);
                Some(Call::Mremap {
                    old: at(page),
                    old_length: length,
                    new: at(new),
                    length,
                    keeps_old,
                    fixed: true,
                })
            }
        }
    }
}

proptest! {
    #[test]
    fn deltas_are_those_of_a_table_of_pages(
        wishes in prop::collection::vec((0..7_u8, 0..PAGES, 1..9_u64, 1..9_u64), 0..60)
    ) {
        let (mut space, mut model) = (Space::new(PAGE), Model::new());
        for (n, wish) in (0..).zip(wishes) {
            let before = model.bytes();
            let Some(call) = model.call(wish) else { continue };
            let change = space.apply(call, when(2 * n, 2 * n + 1));
            prop_assert_eq!(change.delta, model.bytes() as i64 - before as i64, "{:?}", call);
        }
        prop_assert!(space.owed.is_empty());
        prop_assert_eq!(space.mapped.bytes(), model.bytes());
    }

    /// Two threads: one unmaps, the other is given some of the same addresses before the first is told of.
    #[test]
    fn an_mmap_that_overtakes_a_munmap_is_right_in_the_end(
        (page, pages) in (0..10_u64, 1..9_u64), (into, length) in (0..9_u64, 1..9_u64)
    ) {
        let mut space = Space::new(PAGE);
        space.apply(mmap(page, pages, false), when(0, 1));
        let (new, length) = (page + into.min(pages - 1), length);
        let over = space.apply(mmap(new, length, false), when(3, 4));
        prop_assert_eq!(over.delta, at(length) as i64);
        let under = space.apply(munmap(page, pages), when(2, 5));
        prop_assert_eq!(under.delta, -(at(pages) as i64));
        prop_assert_eq!(space.mapped.bytes(), at(length));
        // A later one takes the new mapping.
        let last = space.apply(munmap(new, length), when(6, 7));
        prop_assert_eq!(last.delta, -(at(length) as i64));
        prop_assert!(space.owed.is_empty());
    }
}

fn mapping(page: u64, pages: u64, path: &str) -> Mapping {
    let line = format!("{:x}-{:x} rw-p 00000000 00:00 0    {path}", at(page), at(page + pages));
    crate::process::maps::parse_line(line.as_bytes()).expect("a mapping")
}

#[test]
fn what_was_read_fills_the_gaps_that_calls_left() {
    let mut space = Space::new(PAGE);
    space.apply(mmap(10, 4, false), when(1, 2));
    space.adopt(&[mapping(2, 3, "[heap]"), mapping(10, 6, ""), mapping(30, 1, "[vsyscall]")], &[], 10);
    assert_eq!(space.mapped.bytes(), at(9));
    // Begun before it was read: it may be in it.
    let change = space.apply(mmap(14, 3, false), when(9, 11));
    assert_eq!((change.delta, space.mapped.bytes()), (at(1) as i64, at(10)));
    let change = space.apply(munmap(2, 3), when(12, 13));
    assert_eq!((change.delta, change.kind), (-(at(3) as i64), Kind::Heap));
}

#[test]
fn what_holds_a_stack_pointer_is_a_stack() {
    let mut space = Space::new(PAGE);
    space.adopt(&[mapping(2, 3, ""), mapping(10, 2, "")], &[at(4) + 8], 10);
    assert_eq!(space.apply(munmap(2, 3), when(11, 12)).kind, Kind::Stack);
    assert_eq!(space.apply(munmap(10, 2), when(13, 14)).kind, Kind::Anonymous);
}

#[test]
fn a_shrink_that_was_in_what_was_read_is_none() {
    let mut space = Space::new(PAGE);
    space.adopt(&[mapping(2, 3, "[heap]")], &[], 10);
    // Begun before, and done when it was read.
    assert_eq!(space.apply(Call::Brk { old: at(9), new: at(5) }, when(9, 11)).delta, 0);
    assert_eq!(space.apply(Call::Brk { old: at(5), new: at(3) }, when(12, 13)).delta, -(at(2) as i64));
}

#[test]
fn what_is_not_known_by_its_address_can_be_moved() {
    let mut space = Space::new(PAGE);
    let call = Call::Mremap {
        old: at(1),
        old_length: at(2),
        new: at(20),
        length: at(5),
        keeps_old: false,
        fixed: false,
    };
    let change = space.apply(call, when(1, 2));
    assert_eq!((change.delta, change.at), (at(3) as i64, at(20)));
}

#[test]
fn a_break_within_its_page_changes_nothing() {
    let mut space = Space::new(PAGE);
    assert_eq!(space.apply(Call::Brk { old: 10, new: 4000 }, when(1, 2)).delta, 0);
    assert_eq!(space.apply(Call::Brk { old: 4000, new: 4097 }, when(3, 4)).delta, at(1) as i64);
}

#[test]
fn what_is_given_back_stays_mapped() {
    let mut space = Space::new(PAGE);
    space.apply(mmap(10, 4, false), when(1, 2));
    let change = space.apply(Call::GiveBack { at: at(11), length: at(2), lazily: false }, when(3, 4));
    assert_eq!((change.delta, change.kind), (-(at(2) as i64), Kind::Anonymous));
    assert_eq!(space.apply(munmap(10, 4), when(5, 6)).delta, -(at(4) as i64));
}

#[test]
fn two_munmaps_that_are_told_late_are_paid_for_once_each() {
    let mut space = Space::new(PAGE);
    space.apply(mmap(10, 4, false), when(0, 1));
    // Unmapped from 2 on, mapped by another, unmapped from 5 on, and mapped by a third.
    space.apply(mmap(10, 4, false), when(3, 4));
    space.apply(mmap(10, 4, false), when(6, 7));
    let late = |space: &mut Space, entered, left| space.apply(munmap(10, 4), when(entered, left)).delta;
    assert_eq!(late(&mut space, 2, 8), -(at(4) as i64));
    assert_eq!(late(&mut space, 5, 9), -(at(4) as i64));
    assert_eq!(late(&mut space, 10, 11), -(at(4) as i64));
    assert!(space.owed.is_empty() && space.mapped.bytes() == 0);
}
