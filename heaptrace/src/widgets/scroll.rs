//! Moving through lines of which a page is seen.

use ratatui::crossterm::event::KeyCode;

/// A movement through lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

impl Move {
    /// What keys mean everywhere.
    pub fn of_key(code: KeyCode) -> Option<Self> {
        Some(match code {
            KeyCode::Up => Self::Up,
            KeyCode::Down => Self::Down,
            KeyCode::PageUp => Self::PageUp,
            KeyCode::PageDown => Self::PageDown,
            KeyCode::Home => Self::Home,
            KeyCode::End => Self::End,
            _ => return None,
        })
    }

    /// What letters mean where no text is typed.
    pub fn of_letter(code: KeyCode) -> Option<Self> {
        Some(match code {
            KeyCode::Char('k') => Self::Up,
            KeyCode::Char('j') => Self::Down,
            KeyCode::Char('g') => Self::Home,
            KeyCode::Char('G') => Self::End,
            _ => return None,
        })
    }
}

/// Where a movement leads among `count` things.
pub fn moved(at: usize, movement: Move, page: usize, count: usize) -> usize {
    let to = match movement {
        Move::Up => at.saturating_sub(1),
        Move::Down => at.saturating_add(1),
        Move::PageUp => at.saturating_sub(page),
        Move::PageDown => at.saturating_add(page),
        Move::Home => 0,
        Move::End => usize::MAX,
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
        assert_eq!(moved(0, Move::Up, 10, 5), 0);
        assert_eq!(moved(3, Move::PageDown, 10, 5), 4);
        assert_eq!(moved(4, Move::PageUp, 3, 5), 1);
        assert_eq!(moved(2, Move::End, 3, 5), 4);
        assert_eq!(moved(2, Move::End, 3, 0), 0);
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
