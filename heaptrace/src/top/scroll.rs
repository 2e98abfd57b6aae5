//! Moving through lines of which a page is seen.

use super::keys::Action;

/// Where a movement leads among `count` things.
pub fn moved(at: usize, action: Action, page: usize, count: usize) -> usize {
    let to = match action {
        Action::Up => at.saturating_sub(1),
        Action::Down => at.saturating_add(1),
        Action::PageUp => at.saturating_sub(page),
        Action::PageDown => at.saturating_add(page),
        Action::Home => 0,
        Action::End => usize::MAX,
        _ => at,
    };
    to.min(count.saturating_sub(1))
}

/// The offset at which line `at` of `count` is on a page, moved no further than needed.
pub fn scrolled(offset: usize, at: usize, page: usize, count: usize) -> usize {
    let least = (at + 1).saturating_sub(page);
    offset.min(count.saturating_sub(page)).clamp(least, at.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn movements_end_at_the_ends() {
        assert_eq!(moved(0, Action::Up, 10, 5), 0);
        assert_eq!(moved(3, Action::PageDown, 10, 5), 4);
        assert_eq!(moved(4, Action::PageUp, 3, 5), 1);
        assert_eq!(moved(2, Action::End, 3, 5), 4);
        assert_eq!(moved(2, Action::End, 3, 0), 0);
    }

    proptest! {
        #[test]
        fn what_is_selected_is_on_the_page(offset in 0_usize..99, at in 0_usize..99, page in 1_usize..40) {
            let count = 99;
            let offset = scrolled(offset, at, page, count);
            prop_assert!((offset..offset + page).contains(&at));
        }
    }
}
