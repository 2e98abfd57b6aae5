//! Texts in the room that there is for them, and the styles that things have everywhere.

use crate::printable::printable;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

pub const PLAIN: Style = Style::new();
pub const DIM: Style = Style::new().add_modifier(Modifier::DIM);
pub const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
// Reversed, so that they are seen without colours, too (NO_COLOR, old terminals).
pub const HEADING: Style = Style::new().fg(Color::Green).add_modifier(Modifier::REVERSED);
pub const SORTED: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::REVERSED);
pub const SELECTED: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::REVERSED);
pub const KEY: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::REVERSED);
pub const GROWS: Style = Style::new().fg(Color::Red);
pub const SHRINKS: Style = Style::new().fg(Color::Green);
pub const TRACED: Style = Style::new().fg(Color::Yellow);
pub const LOSS: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// `text` in exactly `width` cells: cut with a mark, or filled up.
pub fn fitted(text: &str, width: usize, right: bool) -> String {
    let text = printable(text);
    let wide = text.width();
    if wide <= width {
        let pad = " ".repeat(width - wide);
        return if right { pad + &text } else { text.into_owned() + &pad };
    }
    if width == 0 {
        return String::new();
    }
    let (mut cut, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        cut.push(c);
        used += wide;
    }
    cut.push('…');
    cut + &" ".repeat(width - used - 1)
}

/// Writes pieces one after the other into one line of `area`, as far as there is room.
pub fn write(buffer: &mut Buffer, area: Rect, line: u16, pieces: &[(&str, Style)]) {
    if line >= area.height {
        return;
    }
    let (mut x, y) = (area.x, area.y + line);
    for (text, style) in pieces {
        let room = area.right().saturating_sub(x);
        if room == 0 {
            break;
        }
        let text = printable(text);
        (x, _) = buffer.set_stringn(x, y, text, room.into(), *style);
    }
}

/// The same, where what finds no room is cut with a mark.
pub fn write_cut(buffer: &mut Buffer, area: Rect, line: u16, text: &str, style: Style) {
    let width = usize::from(area.width);
    let text = printable(text);
    let text = if text.width() > width { fitted(&text, width, false) } else { text.into_owned() };
    write(buffer, area, line, &[(&text, style)]);
}

/// Writes `text` after `before` into the first line of `area`; what finds no room is cut with a mark.
pub fn write_cut_after(buffer: &mut Buffer, area: Rect, before: &str, (text, style): (&str, Style)) {
    let width = usize::from(area.width);
    let taken = printable(before).width().min(width);
    let before = fitted(before, taken, false);
    write(buffer, area, 0, &[(&before, BOLD), (&fitted(text, width - taken, false), style)]);
}

/// The keys of a screen, in the last line.
pub fn keys(buffer: &mut Buffer, area: Rect, keys: &[(&str, &str)]) {
    let mut x = area.x;
    for (key, meaning) in keys {
        let needed = (key.width() + meaning.width() + 2) as u16;
        // A key without its meaning is a riddle.
        if x + needed > area.right() {
            continue;
        }
        (x, _) = buffer.set_stringn(x, area.y, key, key.width(), KEY);
        (x, _) = buffer.set_stringn(x, area.y, format!(" {meaning} "), needed.into(), PLAIN);
    }
}

/// A text that is being typed, its end if all finds no room.
pub fn write_typed(buffer: &mut Buffer, area: Rect, title: &str, text: &str, hint: &str) {
    let room = usize::from(area.width).saturating_sub(title.width() + 2);
    let shown: String = text.chars().rev().take(room).collect();
    let shown: String = shown.chars().rev().collect();
    write(buffer, area, 0, &[(title, BOLD), (&shown, PLAIN), ("▏", BOLD), (hint, DIM)]);
}

/// The style of something that grows or shrinks.
pub fn growth(amount: f64) -> Style {
    if amount >= 1024.0 {
        GROWS
    } else if amount <= -1024.0 {
        SHRINKS
    } else {
        PLAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_cut_is_marked() {
        assert_eq!(fitted("redis", 7, false), "redis  ");
        assert_eq!(fitted("redis", 7, true), "  redis");
        assert_eq!(fitted("redis-server", 7, false), "redis-…");
        assert_eq!(fitted("日本語", 4, false), "日… ");
        assert_eq!(fitted("x", 0, false), "");
    }

    proptest! {
        #[test]
        fn any_text_takes_just_its_room(text: String, width in 0_usize..50, right: bool) {
            prop_assert_eq!(fitted(&text, width, right).width(), width);
        }
    }
}
