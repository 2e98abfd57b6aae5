//! Pages as the kernel tells of them, one by one; and which of them are parts of one.

use std::ops::Range;

/// What was seen of some addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    There,
    /// Not resident, and it will be what it was: swapped out.
    Away,
    Nothing,
}

/// What is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Nothing,
    /// Swapped out; or one that was read and never written, which has no memory of its own.
    Away,
    /// Resident. The number of its frame, if it is known and no file's.
    There {
        frame: Option<u64>,
    },
}

/// Pages of a huge page; they lie in one such part of the address space.
const HUGE: u64 = 512;

/// Pages that are looked at together, whole huge pages.
pub const CHUNK: u64 = 32 * HUGE;

/// What is to be looked at of `held` ranges of addresses, in order: with all that may be of one huge page with them, at most
/// [`CHUNK`] pages each. As addresses.
pub fn chunks(held: impl Iterator<Item = (u64, u64)>, page: u64) -> Vec<Range<u64>> {
    let (huge, most) = (HUGE * page, CHUNK * page);
    let mut chunks: Vec<Range<u64>> = Vec::new();
    for (start, end) in held {
        let mut start = start / huge * huge;
        let end = end.checked_next_multiple_of(huge).unwrap_or(u64::MAX / huge * huge);
        if let Some(last) = chunks.last_mut() {
            start = start.max(last.end);
            if start == last.end && start < end {
                last.end = end.min(last.start + most);
                start = last.end;
            }
        }
        while start < end {
            let until = end.min(start + most);
            chunks.push(start..until);
            start = until;
        }
    }
    chunks
}

/// What was seen of `pages`, of which the first is at `start`.
pub fn seen(start: u64, pages: &[Page], page: u64) -> Vec<(u64, u64, Seen)> {
    let mut seen: Vec<(u64, u64, Seen)> = Vec::new();
    for (at, of) in (start..).step_by(page as usize).zip(pages) {
        let state = match of {
            Page::Nothing => Seen::Nothing,
            Page::Away => Seen::Away,
            Page::There { .. } => Seen::There,
        };
        match seen.last_mut() {
            Some((_, end, last)) if *last == state => *end = at + page,
            _ => seen.push((at, at + page, state)),
        }
    }
    seen
}

/// What was seen of all addresses, where these ranges are mapped, in order.
pub fn seen_mapped(mapped: impl Iterator<Item = Range<u64>>) -> Vec<(u64, u64, Seen)> {
    let mut seen = Vec::new();
    let mut at = 0;
    for Range { start, end } in mapped {
        if at < start {
            seen.push((at, start, Seen::Nothing));
        }
        seen.push((start.max(at), end.max(at), Seen::There));
        at = end.max(at);
    }
    seen.push((at, u64::MAX, Seen::Nothing));
    seen
}

/// Runs of two and more pages whose frames follow upon one another, within a huge page. `first`: the number of the first page.
pub(super) fn runs(first: u64, pages: &[Page]) -> Vec<Range<usize>> {
    let frame = |at: usize| match pages.get(at) {
        Some(Page::There { frame }) => *frame,
        _ => None,
    };
    let mut runs = Vec::new();
    let mut start = 0;
    for at in 1..=pages.len() {
        let follows = frame(at - 1)
            .and_then(|before| before.checked_add(1))
            .is_some_and(|next| frame(at) == Some(next));
        if !follows || (first + at as u64).is_multiple_of(HUGE) {
            if at - start > 1 {
                runs.push(start..at);
            }
            start = at;
        }
    }
    runs
}

/// Bits of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h).
const COMPOUND_HEAD: u64 = 1 << 15;
const COMPOUND_TAIL: u64 = 1 << 16;

const ZERO_PAGE: u64 = 1 << 24;

/// Which of the frames with these `flags` are one page with that at `own`: itself, where it is a small one.
pub fn compound(flags: &[u64], own: usize) -> Range<usize> {
    let is = |at: usize, flag| flags.get(at).is_some_and(|of| of & flag != 0);
    let mut start = own;
    while start > 0
        && is(start, COMPOUND_TAIL)
        && (is(start - 1, COMPOUND_TAIL) || is(start - 1, COMPOUND_HEAD))
    {
        start -= 1;
    }
    let mut end = own + 1;
    if is(own, ZERO_PAGE) {
        return own..end;
    }
    if is(own, COMPOUND_HEAD) || is(own, COMPOUND_TAIL) {
        while is(end, COMPOUND_TAIL) {
            end += 1;
        }
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;
    const HUGE_BYTES: u64 = HUGE * PAGE;

    #[test]
    fn chunks_are_whole_huge_pages_and_no_page_is_looked_at_twice() {
        let of = |held: &[(u64, u64)]| chunks(held.iter().copied(), PAGE);
        assert_eq!(of(&[]), []);
        let one = of(&[(PAGE, 2 * PAGE), (9 * PAGE, 11 * PAGE)]);
        assert_eq!((one.len(), one.first()), (1, Some(&(0..HUGE_BYTES))));
        let (far, most) = (10 * HUGE_BYTES, CHUNK * PAGE);
        assert_eq!(
            of(&[(PAGE, HUGE_BYTES + 1), (far + PAGE, far + 2 * PAGE)]),
            [0..2 * HUGE_BYTES, far..far + HUGE_BYTES]
        );
        assert_eq!(of(&[(0, most + PAGE)]), [0..most, most..most + HUGE_BYTES]);
        // What was begun is filled first.
        let next = [(0, HUGE_BYTES), (HUGE_BYTES, most + 3 * HUGE_BYTES)];
        assert_eq!(of(&next), [0..most, most..most + 3 * HUGE_BYTES]);
    }

    fn there(frame: u64) -> Page {
        Page::There { frame: Some(frame) }
    }

    #[test]
    fn what_was_seen_of_pages_is_told_in_ranges() {
        let file = Page::There { frame: None };
        let pages = [there(5), file, Page::Away, Page::Nothing, Page::Nothing];
        assert_eq!(
            seen(PAGE, &pages, PAGE),
            [
                (PAGE, 3 * PAGE, Seen::There),
                (3 * PAGE, 4 * PAGE, Seen::Away),
                (4 * PAGE, 6 * PAGE, Seen::Nothing)
            ]
        );
    }

    #[test]
    fn what_is_not_mapped_is_seen_to_be_nothing() {
        let seen = seen_mapped([3..5, 5..6, 4..7, 9..10].into_iter());
        let there: Vec<_> = seen.iter().filter(|of| of.2 == Seen::There).map(|of| (of.0, of.1)).collect();
        assert_eq!(there, [(3, 5), (5, 6), (6, 7), (9, 10)]);
        let nothing: Vec<_> = seen.iter().filter(|of| of.2 == Seen::Nothing).map(|of| (of.0, of.1)).collect();
        assert_eq!(nothing, [(0, 3), (7, 9), (10, u64::MAX)]);
    }

    #[test]
    fn frames_that_follow_upon_one_another_are_a_run_within_a_huge_page() {
        let file = Page::There { frame: None };
        assert_eq!(runs(0, &[there(5), there(6), there(8), there(9), there(10)]), [0..2, 2..5]);
        assert_eq!(runs(0, &[there(5), Page::Away, there(7), file, there(9)]), []);
        assert_eq!(runs(HUGE - 2, &[there(5), there(6), there(7), there(8)]), [0..2, 2..4]);
    }

    #[test]
    fn a_compound_page_is_its_head_and_its_tails() {
        const HEAD: u64 = COMPOUND_HEAD | 1;
        const TAIL: u64 = COMPOUND_TAIL | 2;
        let flags = [0, HEAD, TAIL, TAIL, HEAD, TAIL, 4];
        let of: Vec<_> = (0..flags.len()).map(|own| compound(&flags, own)).collect();
        assert_eq!(of, [0..1, 1..4, 1..4, 1..4, 4..6, 4..6, 6..7]);
        // Nobody has written to it.
        assert_eq!(compound(&[HEAD | ZERO_PAGE, TAIL | ZERO_PAGE], 1), 1..2);
        // Its head is not mapped here.
        assert_eq!(compound(&[TAIL, TAIL, 0], 1), 0..2);
    }
}
