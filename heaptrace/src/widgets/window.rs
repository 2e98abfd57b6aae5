//! A box in front of a screen, and texts in lines that fit into it.

use super::line::TRACED;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    widgets::{Block, Clear, Widget as _},
};

/// An empty box of at most this size in the middle of `area`; what is inside its border.
pub fn window(title: &str, size: (u16, u16), area: Rect, buffer: &mut Buffer) -> Rect {
    let (width, height) = (size.0.min(area.width), size.1.min(area.height));
    let at =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(at, buffer);
    // Of two lines the border would leave nothing.
    if height < 3 || width < 3 {
        return at;
    }
    let block = Block::bordered().title(format!(" {title} ")).border_style(TRACED);
    let inner = block.inner(at);
    block.render(at, buffer);
    inner
}

/// Lines broken at blanks so that they fit into `width`.
pub fn wrapped(lines: &[(String, Style)], width: usize) -> Vec<(String, Style)> {
    let mut all = Vec::new();
    for (text, style) in lines {
        let mut line = String::new();
        for word in text.split(' ') {
            let longer = line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && longer > width {
                all.push((std::mem::take(&mut line), *style));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        all.push((line, *style));
    }
    all
}
