//! What keys mean, by where one is.

use super::state::Mode;
use crate::widgets::scroll::Move;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Quit,
    /// Stop, as Ctrl-Z does.
    Suspend,
    Redraw,
    /// One screen back, or out.
    Back,
    Move(Move),
    /// Open, expand, or agree.
    Enter,
    Filter,
    SortLeft,
    SortRight,
    SortMenu,
    Reverse,
    Tree,
    Cgroup,
    Arm,
    Disarm,
    Help,
    Flame,
    Order,
    Residency,
    Pause,
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
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('u') => Some(Action::EraseAll),
            _ => None,
        };
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    let moved = match key.code {
        KeyCode::Enter => Some(Action::Enter),
        KeyCode::Esc => Some(Action::Back),
        code => Move::of_key(code).map(Action::Move),
    };
    if moved.is_some() {
        return moved;
    }
    match mode {
        Mode::Filter(_) => typing(key.code),
        Mode::List => list(key.code).or_else(|| anywhere(key.code)),
        Mode::Process => process(key.code).or_else(|| anywhere(key.code)),
        Mode::Sort(_) => match key.code {
            KeyCode::F(6) => Some(Action::Back),
            code => anywhere(code),
        },
        Mode::Help(_) | Mode::Arm => match key.code {
            KeyCode::Char('y') if *mode == Mode::Arm => Some(Action::Enter),
            KeyCode::Char('n' | '?') | KeyCode::F(1) => Some(Action::Back),
            code => anywhere(code),
        },
    }
}

fn typing(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char(c) => Some(Action::Type(c)),
        KeyCode::Backspace => Some(Action::Erase),
        _ => None,
    }
}

fn anywhere(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Back,
        KeyCode::F(10) => Action::Quit,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Action::Help,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('t') => Action::Arm,
        KeyCode::Char('T') => Action::Disarm,
        KeyCode::Char('f') => Action::Flame,
        code => return Move::of_letter(code).map(Action::Move),
    })
}

fn list(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Char('/') | KeyCode::F(3 | 4) => Action::Filter,
        KeyCode::Char('<' | ',') => Action::SortLeft,
        KeyCode::Char('>' | '.') => Action::SortRight,
        KeyCode::F(6) => Action::SortMenu,
        KeyCode::Char('r' | 'R' | 'I') => Action::Reverse,
        KeyCode::Char('V') | KeyCode::F(5) => Action::Tree,
        KeyCode::Char('c') => Action::Cgroup,
        KeyCode::Right | KeyCode::Char('l') => Action::Enter,
        _ => return None,
    })
}

fn process(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('s') | KeyCode::F(6) => Action::Order,
        KeyCode::Char('m') => Action::Residency,
        KeyCode::Left | KeyCode::Backspace => Action::Back,
        KeyCode::Right | KeyCode::Char('l') => Action::Enter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(c: char) -> KeyEvent {
        KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)
    }

    #[test]
    fn letters_are_text_while_a_filter_is_typed() {
        let typing = Mode::Filter(String::new());
        assert_eq!(action(&typing, key('q')), Some(Action::Type('q')));
        assert_eq!(action(&Mode::List, key('q')), Some(Action::Quit));
        assert_eq!(action(&Mode::Process, key('q')), Some(Action::Back));
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(action(&typing, control), Some(Action::Quit));
    }

    #[test]
    fn a_key_has_the_meaning_of_its_screen() {
        assert_eq!(action(&Mode::List, key('s')), None);
        assert_eq!(action(&Mode::Process, key('s')), Some(Action::Order));
        assert_eq!(action(&Mode::Arm, key('y')), Some(Action::Enter));
        for mode in [Mode::Arm, Mode::Help(0), Mode::Sort(0)] {
            assert_eq!(action(&mode, key('q')), Some(Action::Back), "{mode:?}");
        }
        assert_eq!(action(&Mode::List, key('y')), None);
    }
}
