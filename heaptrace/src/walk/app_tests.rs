//! What keys make of the screen's state.

use super::{App, Effect, Group, Mode, Shape, keys::Action, view::screen};
use crate::{fixtures::walked, widgets::scroll::Move};

fn app(shape: Shape) -> App {
    App::new(walked::table(), shape, screen((80, 24)))
}

/// The lines as they stand, with what is selected marked.
fn lines(app: &App) -> Vec<String> {
    let line = |(at, node): (usize, &usize)| {
        let of = app.tree.node(*node);
        let mark = if at == app.selected { ">" } else { "" };
        format!("{}{mark}{}", "  ".repeat(of.depth), app.tree.text(&app.table, *node))
    };
    app.lines.iter().enumerate().map(line).collect()
}

fn press(app: &mut App, actions: &[Action]) {
    for action in actions {
        assert_eq!(app.apply(*action), None);
    }
}

fn search(app: &mut App, text: &str) {
    app.apply(Action::Search);
    app.apply(Action::EraseAll);
    for c in text.chars() {
        app.apply(Action::Type(c));
    }
    app.apply(Action::Enter);
}

#[test]
fn a_line_opens_with_what_is_in_it_alone_and_closes() {
    let mut app = app(Shape { inverted: true, ..Shape::default() });
    assert_eq!(lines(&app), [">buffer_grow buffer.c", "foo_init"]);
    press(&mut app, &[Action::Enter]);
    assert_eq!(lines(&app), [">buffer_grow buffer.c", "  parse parse.c:77", "  load load.c:5", "foo_init"]);
    press(&mut app, &[Action::Open, Action::Open]);
    assert_eq!(
        lines(&app),
        ["buffer_grow buffer.c", "  >parse parse.c:77", "    main main.c:10", "  load load.c:5", "foo_init"]
    );
    press(&mut app, &[Action::Close, Action::Close, Action::Close]);
    assert_eq!(lines(&app), [">buffer_grow buffer.c", "foo_init"]);
    press(&mut app, &[Action::OpenAll]);
    assert_eq!(lines(&app).len(), 6);
    press(&mut app, &[Action::Move(Move::Down), Action::Move(Move::Down), Action::CloseAll]);
    assert_eq!(lines(&app), [">buffer_grow buffer.c", "foo_init"]);
    press(&mut app, &[Action::Move(Move::End), Action::Enter]);
    assert_eq!(app.status.as_deref(), Some("nothing is below it"));
}

#[test]
fn a_search_opens_what_it_finds_and_goes_around() {
    let mut app = app(Shape::default());
    assert_eq!(lines(&app), [">main main.c:10", "foo_init"]);
    search(&mut app, "BUFFER");
    assert_eq!(
        lines(&app),
        ["main main.c:10", "  parse parse.c:77", "    >buffer_grow buffer.c", "  load load.c:5", "foo_init"]
    );
    let found = app.search.as_ref().map(|search| (search.found, search.sums[0]));
    assert_eq!(found, Some((1, 500_001 + 100_003 + 40_009)));
    press(&mut app, &[Action::Next]);
    assert_eq!(lines(&app)[4], "    >buffer_grow buffer.c:31");
    press(&mut app, &[Action::Next]);
    assert_eq!(lines(&app)[2], "    >buffer_grow buffer.c");
    press(&mut app, &[Action::Previous]);
    assert_eq!(lines(&app)[4], "    >buffer_grow buffer.c:31");
    search(&mut app, "libfoo");
    assert_eq!(lines(&app).last().map(String::as_str), Some(">foo_init"), "by its module");
    search(&mut app, "no such thing");
    assert_eq!(app.status.as_deref(), Some("nothing has no such thing in its name, file or module"));
    press(&mut app, &[Action::Back]);
    assert!(app.search.is_none());
    press(&mut app, &[Action::Next]);
    assert_eq!(app.status.as_deref(), Some("nothing is searched for; / searches"));
}

#[test]
fn shape_measure_and_order_change_with_one_key_each() {
    let mut app = app(Shape::default());
    press(&mut app, &[Action::Invert]);
    assert_eq!(lines(&app), [">buffer_grow buffer.c", "foo_init"]);
    press(&mut app, &[Action::Frames]);
    assert_eq!(lines(&app), [">xmalloc mem.c:3", "buffer_grow buffer.c", "foo_init"]);
    press(&mut app, &[Action::Frames, Action::Measure, Action::Measure]);
    assert_eq!((app.measure, app.order.by), (2, Some(2)), "sorted by the measure as before");
    assert_eq!(lines(&app), [">buffer_grow buffer.c", "load load.c:5", "foo_init"]);
    press(&mut app, &[Action::Reverse]);
    assert_eq!(
        lines(&app),
        ["foo_init", "load load.c:5", ">buffer_grow buffer.c"],
        "what was selected stays so"
    );
    press(&mut app, &[Action::SortRight, Action::SortRight]);
    assert_eq!(app.order.by, None, "the column of names is the last");
    press(&mut app, &[Action::SortRight, Action::Measure]);
    assert_eq!((app.measure, app.order.by), (3, Some(0)), "sorted by another column as before");
    let groups: Vec<Group> = (0..Group::ALL.len())
        .map(|_| {
            press(&mut app, &[Action::Group]);
            app.shape.group
        })
        .collect();
    assert_eq!(groups, [Group::Site, Group::Function, Group::Module, Group::Process, Group::Calls]);
}

#[test]
fn a_search_stays_in_another_tree() {
    let mut app = app(Shape::default());
    search(&mut app, "load");
    press(&mut app, &[Action::Measure, Action::Measure, Action::Invert]);
    let sums = app.search.as_ref().map(|search| search.sums[2]);
    assert_eq!(sums, Some(70_007 + 50_009), "of what was allocated, too");
    press(&mut app, &[Action::Next]);
    assert!(lines(&app).iter().any(|line| line.trim() == ">load load.c:5"), "{:?}", lines(&app));
}

#[test]
fn the_only_way_is_open_at_once_and_help_comes_back() {
    let mut table = walked::table();
    table.rows.truncate(3);
    let mut app = App::new(table, Shape::default(), screen((80, 24)));
    assert_eq!(lines(&app), [">main main.c:10", "  parse parse.c:77", "    buffer_grow buffer.c"]);
    press(&mut app, &[Action::Help, Action::Move(Move::End)]);
    assert!(matches!(app.mode, Mode::Help(above) if above > 0));
    press(&mut app, &[Action::Back]);
    assert_eq!(app.mode, Mode::Tree);
    assert_eq!(app.apply(Action::World(Effect::Quit)), Some(Effect::Quit));
    let mut plain = App::new(walked::of(&[(0, &[0], [1, 1, 1, 1])]), Shape::default(), screen((80, 24)));
    press(&mut plain, &[Action::Frames]);
    assert_eq!(plain.status.as_deref(), Some("no frame is left out"));
}
