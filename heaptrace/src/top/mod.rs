//! `heaptrace top` without the world around it: from what the sources said at each moment to rows, from keys to what is
//! shown and asked for, and the screens. Nothing here reads a clock, a file or a terminal.

mod app;
mod arm;
mod columns;
mod detail;
mod filter;
mod history;
mod json;
mod keys;
mod order;
mod row;
mod sample;
mod sites;
mod state;
mod text;
mod view;

pub use app::App;
pub use arm::{Answer, Arming, Offer, ProbeCost};
pub use columns::Column;
pub use detail::{Detail, Instant, SiteKind, SiteOrder, SiteRow, sort as sort_sites};
pub use filter::{BadFilter, Filter};
pub use history::History;
pub use json::render as render_json;
pub use keys::{Action, action};
pub use order::{Arrangement, Place, arrange};
pub use row::{Row, TracedRow, rows};
pub use sample::{About, Header, Mapped, Memory, Sample, Seen, Sources, Traced};
pub use sites::{Rates, SiteHistory};
pub use state::{Effect, ListState, Mode, ProcessState, Screen};
pub use text::render as render_text;
pub use view::{draw, screen};
