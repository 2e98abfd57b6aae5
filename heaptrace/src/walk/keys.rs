//! What keys mean, by where one is. What they mean in `top`, too, they mean alike.

use super::state::{Effect, Mode};
use crate::widgets::scroll::Move;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    World(Effect),
    /// What was looked for, or is in front, is let go.
    Back,
    Move(Move),
    /// Open what is closed and close what is open; agree.
    Enter,
    Open,
    /// Close it, or go to what it is in.
    Close,
    OpenAll,
    CloseAll,
    Search,
    Next,
    Previous,
    Invert,
    Group,
    Frames,
    Measure,
    SortLeft,
    SortRight,
    Reverse,
    Help,
    Type(char),
    Erase,
    EraseAll,
}

/// What `key` means in `mode`; `None` if nothing.
pub fn action(mode: &Mode, key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::World(Effect::Quit)),
            KeyCode::Char('z') => Some(Action::World(Effect::Suspend)),
            KeyCode::Char('l') => Some(Action::World(Effect::Redraw)),
            KeyCode::Char('u') => Some(Action::EraseAll),
            _ => None,
        };
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    let everywhere = match key.code {
        KeyCode::Enter => Some(Action::Enter),
        KeyCode::Esc => Some(Action::Back),
        KeyCode::F(10) => Some(Action::World(Effect::Quit)),
        code => Move::of_key(code).map(Action::Move),
    };
    everywhere.or_else(|| match mode {
        Mode::Search(_) => match key.code {
            KeyCode::Char(c) => Some(Action::Type(c)),
            KeyCode::Backspace => Some(Action::Erase),
            _ => None,
        },
        Mode::Help(_) => match key.code {
            KeyCode::Char('q' | '?') | KeyCode::F(1) => Some(Action::Back),
            code => Move::of_letter(code).map(Action::Move),
        },
        Mode::Tree => in_tree(key.code),
    })
}

fn in_tree(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::World(Effect::Quit),
        KeyCode::Char('?') | KeyCode::F(1) => Action::Help,
        KeyCode::Char(' ') => Action::Enter,
        KeyCode::Right | KeyCode::Char('l' | '+') => Action::Open,
        KeyCode::Left | KeyCode::Char('h') | KeyCode::Backspace => Action::Close,
        KeyCode::Char('*') => Action::OpenAll,
        KeyCode::Char('-') => Action::CloseAll,
        KeyCode::Char('/') | KeyCode::F(3) => Action::Search,
        KeyCode::Char('n') => Action::Next,
        KeyCode::Char('N') => Action::Previous,
        KeyCode::Char('i') | KeyCode::F(4) => Action::Invert,
        KeyCode::Char('b') | KeyCode::F(5) => Action::Group,
        KeyCode::Char('m') | KeyCode::F(6) => Action::Measure,
        KeyCode::Char('a') | KeyCode::F(7) => Action::Frames,
        KeyCode::Char('<' | ',') => Action::SortLeft,
        KeyCode::Char('>' | '.') => Action::SortRight,
        KeyCode::Char('r' | 'R' | 'I') => Action::Reverse,
        code => return Move::of_letter(code).map(Action::Move),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mode: &Mode, code: KeyCode) -> Option<Action> {
        action(mode, KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn letters_are_text_while_a_search_is_typed() {
        let typing = Mode::Search(String::new());
        assert_eq!(of(&typing, KeyCode::Char('q')), Some(Action::Type('q')));
        assert_eq!(of(&typing, KeyCode::Char('n')), Some(Action::Type('n')));
        assert_eq!(of(&typing, KeyCode::F(10)), Some(Action::World(Effect::Quit)));
        assert_eq!(of(&Mode::Tree, KeyCode::Char('n')), Some(Action::Next));
        assert_eq!(of(&Mode::Help(0), KeyCode::Char('n')), None);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(action(&typing, control), Some(Action::World(Effect::Quit)));
    }

    #[test]
    fn a_key_has_the_meaning_of_its_screen() {
        assert_eq!(of(&Mode::Tree, KeyCode::Char('q')), Some(Action::World(Effect::Quit)));
        assert_eq!(of(&Mode::Help(0), KeyCode::Char('q')), Some(Action::Back));
        assert_eq!(of(&Mode::Help(0), KeyCode::Char('j')), Some(Action::Move(Move::Down)));
        assert_eq!(of(&Mode::Tree, KeyCode::F(4)), of(&Mode::Tree, KeyCode::Char('i')));
        assert_eq!(of(&Mode::Tree, KeyCode::Char('x')), None);
    }
}
