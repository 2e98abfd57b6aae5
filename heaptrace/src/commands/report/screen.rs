//! `report --tui`: keys, until somebody has seen enough.

use crate::{
    commands::terminal::Terminal,
    model::Profile,
    report::{self, By, Options},
    walk::{self, App, Effect, Group, Shape, action, draw},
};
use futures_util::StreamExt as _;
use ratatui::crossterm::event::{Event, EventStream};
use tokio::signal::unix::{SignalKind, signal};

/// Shows what `options` choose of `profile`, which is of the file `name`.
///
/// # Errors
/// If the terminal fails.
pub(super) fn run(profile: &Profile, options: &Options, name: &str) -> anyhow::Result<()> {
    let group = match options.by {
        By::Stack => Group::Calls,
        By::Site => Group::Site,
        By::Function => Group::Function,
        By::Module => Group::Module,
        // Threads have no tree: who asked for them with --tui was told so.
        By::Process | By::Thread => Group::Process,
    };
    let shape = Shape { group, inverted: options.inverted, raw: !options.frames.hides() };
    let app = App::new(report::walk(profile, options, name), shape, walk::screen((80, 24)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(show(app))
}

async fn show(mut app: App) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminal = Terminal::open()?;
    let mut keys = EventStream::new();
    app.resize(walk::screen(terminal.size()?));
    loop {
        terminal.draw(|frame| draw(frame, &app))?;
        let event = tokio::select! {
            biased;
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            event = keys.next() => event,
        };
        let effect = match event {
            Some(Ok(Event::Key(key))) => action(&app.mode, key).and_then(|action| app.apply(action)),
            Some(Ok(Event::Resize(width, height))) => {
                app.resize(walk::screen((width, height)));
                None
            }
            Some(Ok(_)) => None,
            // The terminal is gone.
            Some(Err(_)) | None => return Ok(()),
        };
        match effect {
            Some(Effect::Quit) => return Ok(()),
            Some(Effect::Suspend) => terminal.suspend()?,
            Some(Effect::Redraw) => terminal.redraw()?,
            None => {}
        }
    }
}
