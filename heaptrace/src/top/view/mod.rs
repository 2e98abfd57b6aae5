//! The screens: plain data into a frame of any size.

mod help;
mod list;
mod popup;
mod process;
#[cfg(test)]
mod tests;

pub use list::{growth as growth_in_words, tracing as tracing_in_words};

use super::{
    app::App,
    state::{Mode, Screen},
};
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

/// What a terminal of this size, in columns and lines, has room for.
pub fn screen(size: (u16, u16)) -> Screen {
    let area = Rect::new(0, 0, size.0, size.1);
    Screen {
        size,
        list_page: list::Areas::of(area).rows.height.into(),
        site_page: process::Areas::of(area).sites.height.into(),
        help_lines: help::hidden_lines(area),
    }
}
