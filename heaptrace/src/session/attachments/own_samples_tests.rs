//! Processes whose allocators tell of samples themselves, and what else is probed in them, against a fake world.

use super::tests::{BY_PROCESS, Run};
use crate::{model::Note, probes::plan::FilePlan};

/// Of a process: files that are probed because they tell of samples, and files whose functions are.
fn probed(run: &Run, pid: u32) -> (usize, usize) {
    let plans = run.attachments.plans_in(pid);
    let own = plans.iter().filter(|plan| plan.is_own_samples()).count();
    (own, plans.len() - own)
}

fn run() -> (Run, FilePlan) {
    let mut run = Run::new(BY_PROCESS, 10);
    let telling = run.world.telling_file("sampler");
    (run, telling)
}

#[test]
fn samples_go_before_functions_and_it_is_said() {
    let (mut run, telling) = run();
    run.world.start(7, &[telling, run.libc.clone()]);
    run.add(7).expect("traced");
    assert_eq!((probed(&run, 7), run.world.links_of(7), run.counts(7)), ((1, 0), 1, true));
    let (notes, untraceable) = run.told();
    assert!(
        matches!(notes.as_slice(), [Note::OwnSamples { pid: 7, .. }]) && untraceable.is_empty(),
        "{notes:?}"
    );
    run.end();
}

#[test]
fn what_comes_later_beside_probed_functions_is_left_alone() {
    let (mut run, telling) = run();
    run.traced(7);
    run.world.map(7, &telling);
    run.look();
    assert_eq!((probed(&run, 7), run.told()), ((0, 2), (vec![], vec![])));
    run.end();
}

#[test]
fn an_image_without_them_keeps_none_and_gets_none_later() {
    let (mut run, telling) = run();
    run.world.start(7, &[telling.clone(), run.libc.clone()]);
    run.add(7).expect("traced");
    run.world.exec(7, &[run.program.clone(), run.libc.clone()]);
    run.look();
    assert_eq!((probed(&run, 7), run.world.links_of(7)), ((0, 2), 2));
    run.world.map(7, &telling);
    run.look();
    assert_eq!((probed(&run, 7), run.world.links_of(7)), ((0, 2), 2));
    run.end();
}

#[test]
fn a_child_that_execs_something_else_keeps_none() {
    let (mut run, telling) = run();
    run.world.start(7, &[telling.clone(), run.libc.clone()]);
    run.add(7).expect("traced");
    run.world.fork(7, 8);
    run.handle();
    assert_eq!(probed(&run, 8), (1, 0));
    run.world.exec(8, &[run.program.clone(), run.libc.clone()]);
    run.look();
    assert_eq!((probed(&run, 8), probed(&run, 7)), ((0, 2), (1, 0)));
    run.end();
}
