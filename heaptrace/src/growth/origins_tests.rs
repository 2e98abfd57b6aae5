//! Calls and faults against a table of pages that says whose each is.

use super::*;
use crate::growth::Kind;
use proptest::prelude::*;

const PAGE: u64 = 4096;
const PAGES: u64 = 40;

/// Apart from each other, so that no two share a grain.
const STEP_NS: u64 = 4 * GRAIN_NS;

fn at(page: u64) -> u64 {
    page * PAGE
}

/// The `n`th call.
fn when(n: u64) -> When {
    When { entered_ns: n * STEP_NS + 1, left_ns: n * STEP_NS + 2 }
}

fn mmap(page: u64, pages: u64) -> Call {
    Call::Mmap { at: at(page), length: at(pages), kind: Kind::Anonymous, fixed: true }
}

fn munmap(page: u64, pages: u64) -> Call {
    Call::Munmap { at: at(page), length: at(pages) }
}

fn mremap(old: u64, old_pages: u64, new: u64, pages: u64) -> Call {
    let (old, old_length, new, length) = (at(old), at(old_pages), at(new), at(pages));
    Call::Mremap { old, old_length, new, length, keeps_old: false, fixed: true }
}

/// Whose the pages are.
fn owners(origins: &Origins) -> Vec<Option<u32>> {
    let mut pages = vec![None; PAGES as usize];
    for (start, end, origin) in origins.held().filter(|(_, _, origin)| origin.there) {
        pages[(start / PAGE) as usize..(end / PAGE) as usize].fill(Some(origin.site));
    }
    pages
}

/// What a random wish does to the pages; a mapped page is always one's own.
fn step(
    what: What,
    pages: &mut [Option<u32>],
    origins: &mut Origins,
    n: u64,
    (which, page, length, more): (u8, u64, u64, u64),
) {
    let site = n as u32;
    let length = length.min(PAGES - page);
    let fill = |pages: &mut [Option<u32>], page: u64, length: u64, of| {
        pages[page as usize..(page + length) as usize].fill(of);
    };
    let mapped = (what == What::Mapped).then_some(site);
    match which {
        0 => {
            fill(pages, page, length, mapped);
            origins.apply(mmap(page, length), when(n), Some(site));
        }
        1 => {
            fill(pages, page, length, None);
            origins.apply(munmap(page, length), when(n), None);
        }
        // There is always a break below what is mapped; here it moves from page to page.
        2 => {
            let (old, new) = (page, more.min(PAGES));
            let (from, to) = (old.min(new), old.max(new));
            fill(pages, from, to - from, if new > old { mapped } else { None });
            origins.apply(Call::Brk { old: at(old), new: at(new) }, when(n), Some(site));
        }
        3 => {
            if what == What::Touched {
                fill(pages, page, length, None);
            }
            let give = |lazily| Call::GiveBack { at: at(page), length: at(length), lazily };
            origins.apply(give(true), when(n), None);
            origins.apply(give(false), when(n), None);
        }
        4 => {
            let new = more.min(PAGES - 1);
            let grown = (length + more % 5).min(PAGES - new);
            let apart = new + grown <= page || page + length <= new;
            if !apart && new != page {
                return;
            }
            let old: Vec<_> = pages[page as usize..(page + length) as usize].to_vec();
            fill(pages, page, length, None);
            fill(pages, new, grown, mapped);
            let moved = length.min(grown) as usize;
            pages[new as usize..new as usize + moved].copy_from_slice(&old[..moved]);
            origins.apply(mremap(page, length, new, grown), when(n), Some(site));
        }
        _ if what == What::Touched => {
            for page in page..page + length {
                origins.touch(at(page), PAGE, site, n * STEP_NS);
            }
            fill(pages, page, length, Some(site));
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn each_page_is_of_who_mapped_or_touched_it_last(
        what in prop_oneof![Just(What::Mapped), Just(What::Touched)],
        wishes in prop::collection::vec((0..7_u8, 0..PAGES, 1..9_u64, 0..PAGES), 0..60)
    ) {
        let mut origins = Origins::new(what, PAGE);
        let mut pages = vec![None; PAGES as usize];
        for (n, wish) in (1..).zip(wishes) {
            step(what, &mut pages, &mut origins, n, wish);
            prop_assert_eq!(&owners(&origins), &pages, "{:?}", wish);
        }
    }
}

#[test]
fn pages_that_one_site_touches_in_turn_are_one_range() {
    let mut origins = Origins::new(What::Touched, PAGE);
    for page in [3, 4, 5, 9, 8, 7, 6] {
        origins.touch(at(page), PAGE, 1, STEP_NS + page);
    }
    let held: Vec<_> = origins.held().map(|(start, end, _)| (start, end)).collect();
    assert_eq!(held, [(at(3), at(10))]);
}

#[test]
fn what_came_after_a_call_began_is_not_taken_by_it() {
    let mut origins = Origins::new(What::Mapped, PAGE);
    origins.apply(mmap(3, 4), when(1), Some(1));
    // Another thread was given some of the addresses before word came that they were unmapped.
    origins.apply(mmap(4, 2), when(3), Some(3));
    origins.apply(munmap(3, 4), When { entered_ns: when(2).entered_ns, left_ns: when(4).left_ns }, None);
    let held: Vec<_> = origins.held().map(|(start, end, origin)| (start, end, origin.site)).collect();
    assert_eq!(held, [(at(4), at(6), 3)]);
}

#[test]
fn a_mapping_that_stays_when_it_is_moved_is_there_twice_and_its_pages_once() {
    let call = Call::Mremap {
        old: at(1),
        old_length: at(2),
        new: at(9),
        length: at(2),
        keeps_old: true,
        fixed: false,
    };
    let held = |what| {
        let mut origins = Origins::new(what, PAGE);
        origins.apply(mmap(1, 2), when(1), Some(1));
        if what == What::Touched {
            origins.touch(at(1), PAGE, 5, when(2).entered_ns);
        }
        origins.apply(call, when(3), Some(3));
        origins.held().map(|(start, _, origin)| (start / PAGE, origin.site)).collect::<Vec<_>>()
    };
    assert_eq!(held(What::Mapped), [(1, 1), (9, 3)]);
    assert_eq!(held(What::Touched), [(9, 5)]);
}

#[test]
fn what_is_given_back_lazily_is_there_until_it_is_seen_to_be_gone() {
    let mut origins = Origins::new(What::Touched, PAGE);
    origins.touch(at(1), PAGE, 1, STEP_NS);
    origins.apply(Call::GiveBack { at: at(1), length: PAGE, lazily: true }, when(2), None);
    assert_eq!(owners(&origins)[1], Some(1));
    origins.look(&[(at(0), at(9), Seen::Nothing)], when(3).entered_ns);
    assert_eq!(owners(&origins)[1], None);
}

#[test]
fn what_is_not_there_twice_is_forgotten_and_what_is_away_comes_back() {
    let mut origins = Origins::new(What::Touched, PAGE);
    for page in 1..5 {
        origins.touch(at(page), PAGE, 1, STEP_NS);
    }
    let now_ns = 10 * STEP_NS;
    origins.look(
        &[(at(1), at(2), Seen::There), (at(2), at(4), Seen::Nothing), (at(4), at(5), Seen::Away)],
        now_ns,
    );
    assert_eq!(owners(&origins)[1..5], [Some(1), None, None, None]);
    // Word that page 3 was moved came late.
    origins.apply(mremap(3, 1, 6, 1), When { entered_ns: now_ns - 1, left_ns: now_ns }, None);
    let seen = [(at(1), at(2), Seen::There), (at(2), at(4), Seen::Nothing), (at(4), at(7), Seen::There)];
    origins.look(&seen, now_ns + LOST_NS);
    let held: Vec<_> = origins.held().map(|(start, _, origin)| (start / PAGE, origin.there)).collect();
    assert_eq!(held, [(1, true), (4, true), (6, true)]);
}

#[test]
fn what_came_since_it_began_to_be_looked_is_left_alone() {
    let mut origins = Origins::new(What::Mapped, PAGE);
    origins.apply(mmap(1, 2), when(5), Some(1));
    origins.look(&[(0, at(9), Seen::Nothing)], when(5).left_ns);
    assert_eq!(owners(&origins)[1..3], [Some(1), Some(1)]);
}

#[test]
fn pages_of_one_frame_range_are_found_beside_what_is_held_and_adopted() {
    let mut origins = Origins::new(What::Touched, PAGE);
    origins.touch(at(3), PAGE, 1, STEP_NS);
    origins.touch(at(5), PAGE, 2, STEP_NS);
    let there = |frame| Page::There { frame: Some(frame) };
    let pages = [there(100), there(101), there(102), there(103), there(104), there(105), Page::Nothing];
    assert_eq!(origins.beside(0, &pages), [(3, 0..6), (5, 0..6)]);
    origins.adopt(at(3), 0, at(6));
    assert_eq!(owners(&origins)[..7], [Some(1), Some(1), Some(1), Some(1), Some(1), Some(2), None]);
    assert_eq!(origins.beside(0, &pages), []);
}
