//! Golden screens, and screens of any size.

use crate::{
    fixtures::{screens, top_rows},
    top::{
        App, Detail, Instant, SiteKind, SiteRow,
        arm::{Answer, Arming, Offer, ProbeCost},
        keys::Action,
    },
    widgets::scroll::Move,
};
use proptest::prelude::*;

fn screen(app: &App) -> String {
    screens::drawn(app.screen.size, |frame| super::draw(frame, app))
}

fn app(size: (u16, u16), traced: bool) -> App {
    let mut app = App::new(super::screen(size));
    let (history, sample) = top_rows::history(traced);
    app.refresh(crate::top::row::rows(&sample, &history), top_rows::header(traced));
    app
}

fn detail() -> Detail {
    let site = |id: usize, bytes, frames: &[&str]| SiteRow {
        id,
        bytes,
        count: 12 + id as u64,
        growth: Some(1024.0 * id as f64),
        allocs_per_s: Some(300.0),
        frees_per_s: Some(299.5),
        function: "malloc",
        frames: frames.iter().map(ToString::to_string).collect(),
        inner: 0,
        judged: None,
        said: None,
    };
    Detail {
        pid: 812,
        kind: SiteKind::Blocks,
        sites: vec![
            site(
                0,
                1_000_000,
                &["sdsnewlen sds.c:111", "createEmbeddedStringObject object.c:82", "main server.c:7000"],
            ),
            site(1, 50_000, &["dictExpand dict.c:150", "dictAdd dict.c:301"]),
            site(2, 999, &["[no stack]"]),
        ],
        sizes: Some(vec![0, 0, 0, 10, 900, 4000, 12, 0, 0, 1, 0, 0, 0, 7]),
        timeline: (0..60)
            .map(|n| Instant {
                ago: f64::from(59 - n),
                res: (14 << 20) + 100_000 * n as u64,
                live: (n > 20).then_some(1_200_000 + 50_000 * n as u64),
            })
            .collect(),
        mapped: Some("mapped since top began: brk +1.2M, mmap 4.0M, munmap 0B".into()),
        residency: vec![],
        notes: vec![],
    }
}

fn opened(size: (u16, u16)) -> App {
    let mut app = app(size, true);
    app.header.notes.clear();
    while app.current().expect("a row").identity.pid != 812 {
        app.apply(Action::Move(Move::Down));
    }
    app.apply(Action::Enter);
    app.set_detail(detail());
    app
}

#[test]
fn the_list_in_80_columns() {
    insta::assert_snapshot!(screen(&app((80, 24), false)));
}

#[test]
fn the_list_with_a_traced_process() {
    insta::assert_snapshot!(screen(&app((80, 24), true)));
}

#[test]
fn a_tree_with_cgroups_in_120_columns() {
    let mut app = app((120, 40), true);
    app.apply(Action::Tree);
    app.apply(Action::Cgroup);
    insta::assert_snapshot!(screen(&app));
}

#[test]
fn a_small_terminal() {
    insta::assert_snapshot!(screen(&app((40, 10), false)));
}

#[test]
fn a_filter_that_finds_nothing_says_so() {
    let mut app = app((80, 12), false);
    app.filter("nobody res>1G").expect("a filter");
    insta::assert_snapshot!(screen(&app));
}

#[test]
fn a_filter_is_shown_beside_whatever_else_there_is_to_say() {
    let mut app = app((80, 24), true);
    app.filter("redis").expect("a filter");
    app.header.notes =
        vec!["a note that is much too long for the rest of a line of eighty columns".to_owned()];
    let shown = |app: &App| screen(app).lines().rev().nth(1).map(str::to_owned).expect("a line of notes");
    let line = shown(&app);
    assert!(line.starts_with("1 of 5 found by redis  a note that") && line.ends_with('…'), "{line}");
    app.status = Some("a status".to_owned());
    assert_eq!(shown(&app), "1 of 5 found by redis  a status");
    app.filter(&"x".repeat(100)).expect("a filter");
    assert!(shown(&app).starts_with("0 of 5 found by xxx") && shown(&app).ends_with('…'), "{}", shown(&app));
}

#[test]
fn a_process_in_80_columns() {
    let mut app = opened((80, 24));
    app.apply(Action::Enter);
    insta::assert_snapshot!(screen(&app));
}

#[test]
fn a_process_in_120_columns() {
    let mut app = opened((120, 40));
    app.apply(Action::Order);
    insta::assert_snapshot!(screen(&app));
}

#[test]
fn what_memory_is_made_of_in_place_of_the_charts() {
    let mut app = opened((80, 24));
    app.apply(Action::Residency);
    assert!(screen(&app).contains("being measured"), "nobody looked yet");
    let residency = vec!["malloc, in use   6.1M".into(), "files  3.2M".into()];
    app.set_detail(Detail { residency, ..detail() });
    let screen = screen(&app);
    assert!(screen.contains("resident memory") && screen.contains("malloc, in use   6.1M"), "{screen}");
    assert!(!screen.contains("live bytes and RES"), "{screen}");
}

#[test]
fn the_help() {
    let mut app = app((80, 24), false);
    app.apply(Action::Help);
    app.apply(Action::Move(Move::Down));
    insta::assert_snapshot!(screen(&app));
}

#[test]
fn the_question_before_tracing() {
    let mut app = app((80, 24), false);
    app.apply(Action::Arm);
    app.arming = Some(Arming {
        pid: 1200,
        name: "python3".into(),
        answer: Answer::Can(Offer {
            cost: Some(ProbeCost { alloc_ns: 1128.0, free_ns: Some(658.0) }),
            own_samples: false,
            allocators: vec!["glibc /usr/lib/x86_64-linux-gnu/libc.so.6".into()],
            probes: 12,
            table_bytes: 201 << 20,
            notes: vec![],
        }),
    });
    insta::assert_snapshot!(screen(&app));
}

#[test]
fn a_refusal_before_tracing() {
    let mut app = app((80, 24), false);
    app.apply(Action::Arm);
    let answer = Answer::Cannot("its seccomp filter would kill it for the probe's own system call".into());
    app.arming = Some(Arming { pid: 1200, name: "python3".into(), answer });
    insta::assert_snapshot!(screen(&app));
}

const ACTIONS: [Action; 25] = [
    Action::Back,
    Action::Move(Move::Up),
    Action::Move(Move::Down),
    Action::Move(Move::PageUp),
    Action::Move(Move::PageDown),
    Action::Move(Move::Home),
    Action::Move(Move::End),
    Action::Enter,
    Action::Filter,
    Action::SortLeft,
    Action::SortRight,
    Action::SortMenu,
    Action::Reverse,
    Action::Tree,
    Action::Cgroup,
    Action::Arm,
    Action::Disarm,
    Action::Help,
    Action::Flame,
    Action::Order,
    Action::Residency,
    Action::Pause,
    Action::Type('r'),
    Action::Type('>'),
    Action::Erase,
];

proptest! {
    /// Whatever is pressed on a terminal of whatever size, there is a screen, and what is selected is on it.
    #[test]
    fn any_keys_on_any_terminal(
        size in (1_u16..130, 1_u16..50),
        traced: bool,
        keys in proptest::collection::vec(0..ACTIONS.len(), 0..30),
    ) {
        let mut app = app(size, traced);
        for key in keys {
            app.apply(ACTIONS[key]);
            if app.process.is_some() {
                app.set_detail(detail());
            }
            screen(&app);
            let line = app.selected_line();
            let page = app.screen.list_page.max(1);
            prop_assert!(line >= app.list.offset && line < app.list.offset + page);
        }
    }
}
