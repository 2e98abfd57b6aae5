//! Which numbers there is room for.

use crate::{
    units::percent,
    walk::{
        app::App,
        table::{Amounts, Measure},
    },
    widgets::amount,
};

/// Width of the share, and of an amount.
pub const SHARE: usize = 7;
pub const AMOUNT: usize = 8;

/// What names need at least.
const NAMES: usize = 32;

/// See the module: measures, in their order.
pub struct Columns {
    pub measures: Vec<usize>,
}

impl Columns {
    /// That of the shares is the last to go.
    pub fn fit(width: u16, measures: &[Measure], main: usize) -> Self {
        let room = usize::from(width).saturating_sub(NAMES + SHARE + 1) / (AMOUNT + 1);
        let mut kept: Vec<usize> = (0..measures.len()).collect();
        while kept.len() > room.max(1)
            && let Some(place) = kept.iter().rposition(|measure| *measure != main)
        {
            kept.remove(place);
        }
        if width < 24 {
            kept.clear();
        }
        Self { measures: kept }
    }

    /// The cells of a line, with the blanks behind them.
    pub fn cells(&self, app: &App, sums: &Amounts, total: u64) -> String {
        let share = format!("{:.2}%", percent(sums[app.measure], total));
        let mut cells = format!("{share:>SHARE$} ");
        for measure in &self.measures {
            let number = sums[*measure];
            let text = if app.table.measures[*measure].is_bytes {
                amount::bytes(number)
            } else {
                amount::count(number as f64)
            };
            cells += &format!("{text:>AMOUNT$} ");
        }
        cells
    }
}
