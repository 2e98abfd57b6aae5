//! Probes that are away for a while, against a fake world.

use super::{
    Kernel as _,
    tests::{BY_PROCESS, Run},
};
use crate::{
    drain::Counted,
    fixtures::fake_world::{
        Moment::{Arm, Attach, Attached, Discover},
        Purpose::{Counting, Holding, Verifying},
    },
    model::{Coverage, Process},
};

const SECOND: u64 = 1_000_000_000;

impl Run {
    fn pause(&mut self, pids: &[u32]) {
        self.attachments.pause(&mut self.world, pids);
    }

    fn resume(&mut self, pid: u32) -> bool {
        self.attachments.resume(&mut self.world, pid)
    }

    fn pass(&mut self, seconds: u64) {
        self.world.kernel.now_ns += seconds * SECOND;
    }

    /// What the report says of a process.
    fn process(&mut self, pid: u32) -> Process {
        use super::World as _;
        self.world.read_processes();
        let counted = Counted { from_ns: 0, until_ns: self.world.now_ns(), probes: true };
        let chunk = self.world.builder.chunk(0, counted, Coverage::default());
        let mut of = chunk.processes.into_iter().filter(|(_, process)| process.pid == pid);
        of.next_back().expect("is told of").1
    }
}

#[test]
fn probes_go_and_come_back_and_the_time_between_is_no_gap() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.traced(7);
    run.pass(3);
    run.pause(&[7]);
    assert_eq!((run.world.links_of(7), run.world.links_for(7, Verifying).len()), (0, 0));
    assert_eq!((run.world.counting(), run.attachments.is_paused(7)), (vec![6], true));
    run.pass(5);
    assert!(run.resume(7) && !run.resume(7));
    assert_eq!((run.world.links_of(7), run.world.counting()), (2, vec![6, 7]));
    run.pass(2);
    let Process { life_ns, attached_ns, paused_ns, attach_gap_ns, .. } = run.process(7);
    assert_eq!((life_ns, attached_ns, paused_ns, attach_gap_ns), (10 * SECOND, 5 * SECOND, 5 * SECOND, None));
    assert_eq!(run.told(), (vec![], vec![]));
    run.end();
}

#[test]
fn what_happens_meanwhile_places_nothing_and_is_known_afterwards() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    run.pause(&[7]);
    let plugin = run.world.file("plugin.so");
    run.world.map(7, &plugin);
    run.look();
    assert_eq!((run.world.links_of(7), run.counts(7)), (0, false));
    run.world.exec(7, &[run.program.clone(), run.libc.clone(), plugin]);
    run.look();
    assert_eq!((run.world.links_of(7), run.counts(7)), (0, false));
    assert!(run.resume(7));
    run.look();
    assert_eq!((run.world.links_of(7), run.counts(7)), (3, true));
    let Process { paused_ns, attach_gap_ns, .. } = run.process(7);
    assert!(paused_ns > 0 && attach_gap_ns.is_none());
    assert_eq!(run.told(), (vec![], vec![]));
    run.end();
}

#[test]
fn one_that_ends_meanwhile_leaves_nothing() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.traced(7);
    run.pause(&[7]);
    run.world.exit(7);
    run.look();
    assert!(!run.resume(7) && !run.attachments.is_paused(7));
    // Another with its PID.
    run.traced(7);
    assert_eq!(run.told(), (vec![], vec![]));
    run.end();
}

#[test]
fn one_of_whose_end_nothing_tells_is_forgotten() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    run.pause(&[7]);
    run.world.exit(7);
    run.world.events.clear();
    run.look();
    run.look();
    assert!(!run.attachments.is_paused(7));
    run.end();
}

#[test]
fn a_process_that_vanishes_as_its_probes_come_back_is_no_fact() {
    for moment in [Discover, Attach(2), Attached(2), Attach(3), Attached(3), Arm] {
        let mut run = Run::new(BY_PROCESS, 10);
        run.traced(6);
        run.traced(7);
        run.pause(&[7]);
        run.world.at(moment, 7, |world| world.exit(7));
        run.resume(7);
        run.look();
        run.look();
        assert_eq!((run.world.running(), run.world.counting()), (vec![6], vec![6]), "{moment:?}");
        assert_eq!(run.told(), (vec![], vec![]), "{moment:?}");
        run.end();
    }
}

#[test]
fn children_are_paused_with_their_parent_and_come_back_by_themselves() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.pause(&[6]);
    run.world.fork(6, 7);
    run.look();
    assert!(run.attachments.is_paused(7) && run.world.counting().is_empty());
    run.pass(4);
    assert!(run.resume(7));
    assert_eq!((run.world.links_of(7), run.world.counting()), (2, vec![7]));
    // Of one that is traced it is as ever.
    run.world.fork(7, 8);
    run.look();
    assert_eq!((run.world.links_of(8), run.world.counting()), (2, vec![7, 8]));
    assert_eq!(run.process(7).attach_gap_ns, None);
    run.end();
}

#[test]
fn new_targets_wait_where_they_are_told_to() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.attachments.pause_new(true);
    run.start(7);
    run.add(7).expect("a target");
    assert_eq!((run.world.running(), run.world.links_of(7), run.world.counting()), (vec![7], 0, vec![]));
    run.pass(60);
    assert!(run.resume(7));
    assert_eq!((run.world.links_of(7), run.world.counting()), (2, vec![7]));
    // What is there goes on, and its children wait.
    run.world.fork(7, 8);
    run.look();
    assert_eq!((run.world.links_of(7), run.world.links_of(8), run.attachments.is_paused(8)), (2, 0, true));
    run.world.exec(8, &[run.libc.clone()]);
    run.look();
    assert_eq!(run.world.links_of(8), 0);
    run.attachments.pause_new(false);
    run.world.fork(7, 9);
    run.look();
    assert_eq!((run.world.links_of(8), run.world.links_of(9)), (0, 2));
    let Process { life_ns, attached_ns, paused_ns, attach_gap_ns, .. } = run.process(7);
    assert_eq!((paused_ns, attach_gap_ns), (60 * SECOND, None));
    assert_eq!(life_ns, attached_ns + paused_ns);
    run.end();
}

#[test]
fn an_exec_in_the_midst_counts_nothing() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    let files = [run.libc.clone()];
    run.world.exec(7, &files);
    run.pause(&[7]);
    run.look();
    assert_eq!((run.world.links_of(7), run.counts(7)), (0, false));
    assert!(run.resume(7));
    assert_eq!((run.world.links_of(7), run.counts(7)), (1, true));
    run.end();
}

#[test]
fn one_without_its_first_thread_is_held_again() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    run.world.start_thread(7, 71);
    run.world.exit_thread(7, 7, false);
    run.look();
    run.pause(&[7]);
    run.attachments.wait();
    assert_eq!((run.world.links_of(7), run.world.links_for(7, Holding)), (0, vec![]));
    assert!(run.resume(7));
    assert_eq!(
        (run.world.links_for(7, Counting), run.world.links_for(7, Holding)),
        (vec![7; 2], vec![71; 2])
    );
    run.end();
}

#[test]
fn one_that_has_nothing_to_probe_yet_is_no_refusal() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.pause(&[6]);
    run.world.fork(6, 7);
    run.look();
    // In the midst of its exec.
    run.world.exec(7, &[]);
    run.handle();
    assert!(run.resume(7));
    assert_eq!((run.world.links_of(7), run.counts(7)), (0, false));
    let libc = run.libc.clone();
    run.world.map(7, &libc);
    run.look();
    assert_eq!((run.world.links_of(7), run.counts(7)), (1, true));
    assert_eq!(run.told(), (vec![], vec![]));
    run.end();
}

#[test]
fn an_image_that_nobody_has_read_of_is_paused_and_told_of() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    run.world.exec(7, &[run.libc.clone()]);
    run.pause(&[7]);
    run.pass(5);
    run.world.exec(7, &[run.libc.clone()]);
    assert!(run.resume(7));
    run.look();
    assert!((5 * SECOND..6 * SECOND).contains(&run.process(7).paused_ns));
    run.end();
}

#[test]
fn hundreds_of_pauses_are_told_as_such() {
    let mut run = Run::new(BY_PROCESS, 400);
    run.attachments.pause_new(true);
    run.start(7);
    run.add(7).expect("a target");
    for _ in 0..300 {
        run.pass(9);
        run.world.exec(7, &[run.program.clone(), run.libc.clone()]);
        run.look();
        assert!(run.resume(7));
        run.pass(1);
        run.pause(&[7]);
    }
    let Process { paused_ns, attached_ns, attach_gap_ns, .. } = run.process(7);
    assert_eq!(attach_gap_ns, None);
    assert!(
        paused_ns >= 2_700 * SECOND && (300 * SECOND..310 * SECOND).contains(&attached_ns),
        "{attached_ns}"
    );
    run.end();
}

#[test]
fn another_process_with_the_pid_of_a_paused_one_is_not() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.traced(7);
    run.pause(&[7]);
    run.world.exit(7);
    run.world.events.clear();
    run.pass(1);
    run.world.fork(6, 7);
    run.look();
    assert!(!run.attachments.is_paused(7));
    assert_eq!((run.world.links_of(7), run.world.counting()), (2, vec![6, 7]));
    run.end();
}
