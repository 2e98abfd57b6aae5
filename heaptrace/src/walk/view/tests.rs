//! Golden screens, and screens of any size.

use crate::{
    fixtures::{screens, walked},
    walk::{Action, App, Group, Shape, Table},
    widgets::scroll::Move,
};
use proptest::prelude::*;

fn screen(app: &App) -> String {
    screens::drawn(app.screen.size, |frame| super::draw(frame, app))
}

fn app(size: (u16, u16), table: Table) -> App {
    App::new(table, Shape::default(), super::screen(size))
}

#[test]
fn a_tree_in_80_columns() {
    let mut app = app((80, 24), walked::table());
    app.apply(Action::OpenAll);
    app.apply(Action::Move(Move::Down));
    insta::assert_snapshot!(screen(&app));
}

#[test]
fn a_tree_in_120_columns_by_function() {
    let mut app = app((120, 20), walked::table());
    while app.shape.group != Group::Function {
        app.apply(Action::Group);
    }
    app.apply(Action::Invert);
    app.apply(Action::Enter);
    app.table.losses = vec!["lost 3 (live_map_full): no room".into(), "the recorder did not finish".into()];
    insta::assert_snapshot!(screen(&app));
}

#[test]
fn a_search_in_a_small_terminal() {
    let mut app = app((40, 10), walked::table());
    app.apply(Action::Search);
    for c in "buffer".chars() {
        app.apply(Action::Type(c));
    }
    let typing = screen(&app);
    app.apply(Action::Enter);
    insta::assert_snapshot!(format!("{typing}\n\n{}", screen(&app)));
}

#[test]
fn the_help() {
    let mut app = app((80, 24), walked::table());
    app.apply(Action::Help);
    let first = screen(&app);
    app.apply(Action::Move(Move::End));
    insta::assert_snapshot!(format!("{first}\n\n{}", screen(&app)));
}

#[test]
fn nothing_to_walk_says_why() {
    let mut table = walked::of(&[]);
    table.empty = vec!["Nothing to show: no process was traced.".into()];
    let nothing = app((60, 8), table);
    assert!(screen(&nothing).contains("Nothing to show: no process was traced."), "{}", screen(&nothing));
    let freed = app((80, 8), walked::of(&[(0, &[0], [0, 0, 5, 1])]));
    assert!(screen(&freed).contains("There are no live bytes; m shows others."), "{}", screen(&freed));
}

const ACTIONS: [Action; 21] = [
    Action::Back,
    Action::Move(Move::Up),
    Action::Move(Move::Down),
    Action::Move(Move::PageDown),
    Action::Move(Move::Home),
    Action::Move(Move::End),
    Action::Enter,
    Action::Open,
    Action::Close,
    Action::OpenAll,
    Action::CloseAll,
    Action::Search,
    Action::Next,
    Action::Previous,
    Action::Invert,
    Action::Group,
    Action::Frames,
    Action::Measure,
    Action::SortLeft,
    Action::Help,
    Action::Type('a'),
];

proptest! {
    /// Whatever is pressed on a terminal of whatever size, there is a screen, and what is selected is on it.
    #[test]
    fn any_keys_on_any_terminal(
        size in (1_u16..130, 1_u16..40),
        keys in proptest::collection::vec(0..ACTIONS.len(), 0..40),
    ) {
        let mut app = app(size, walked::table());
        for key in keys {
            app.apply(ACTIONS[key]);
            screen(&app);
            let page = app.screen.page.max(1);
            prop_assert!(app.selected >= app.offset && app.selected < app.offset + page);
            prop_assert!(app.selected < app.lines.len());
        }
    }
}
