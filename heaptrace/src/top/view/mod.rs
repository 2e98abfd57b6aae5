//! The screens: plain data into a frame of any size.

mod help;
mod line;
mod list;
mod popup;
mod process;
#[cfg(test)]
mod tests;

pub use list::{growth as growth_in_words, tracing as tracing_in_words};

use super::{app::App, state::Mode};
use ratatui::{Frame, layout::Rect};

/// Draws all of `app`.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    if area.width == 0 || area.height == 0 {
        return;
    }
    let buffer = frame.buffer_mut();
    match &app.process {
        Some(process) => process::draw(app, process, area, buffer),
        None => list::draw(app, area, buffer),
    }
    match &app.mode {
        Mode::Help(above) => help::draw(*above, app, area, buffer),
        Mode::Sort(at) => popup::draw_sort(app, *at, area, buffer),
        Mode::Arm => popup::draw_arming(app, area, buffer),
        Mode::List | Mode::Process | Mode::Filter(_) => {}
    }
}

/// Lines of the table that a terminal of this size has.
pub fn list_page(size: (u16, u16)) -> usize {
    list::Areas::of(Rect::new(0, 0, size.0, size.1)).rows.height.into()
}

/// Lines of sites that a terminal of this size has.
pub fn site_page(size: (u16, u16)) -> usize {
    process::Areas::of(Rect::new(0, 0, size.0, size.1)).sites.height.into()
}

/// Lines that the help can be scrolled by.
pub fn help_lines(size: (u16, u16)) -> usize {
    help::hidden_lines(Rect::new(0, 0, size.0, size.1))
}
