//! Targets that vanish, fork, exec and lose threads while they are attached to, against a fake world.

use super::{Attachments, How, Kernel as _, Processes as _, World as _};
use crate::{
    fixtures::fake_world::{
        FakeLink, FakeWorld,
        Moment::{self, Arm, Armed, Attach, Attached, Discover, Register},
        Purpose::{Counting, Holding, Verifying},
    },
    model::Note,
    probes::plan::FilePlan,
    session::TargetError,
};
use heaptrace_common::check::Check;
use std::collections::BTreeSet;

/// As a session traces PIDs that were named.
pub(super) const BY_PROCESS: How =
    How { probes: true, watched: false, per_process: true, unnamed: false, tell_of_others: false };

/// Both sides.
pub(super) struct Run {
    pub world: FakeWorld,
    pub attachments: Attachments<FakeLink>,
    pub libc: FilePlan,
    pub program: FilePlan,
}

impl Run {
    pub fn new(how: How, records: usize) -> Self {
        let mut world = FakeWorld::new(records);
        let (libc, program) = (world.file("libc.so.6"), world.file("program"));
        Self { world, attachments: Attachments::new(how), libc, program }
    }

    /// Starts a process with two files that are probed.
    pub fn start(&mut self, pid: u32) {
        self.world.start(pid, &[self.program.clone(), self.libc.clone()]);
    }

    pub fn add(&mut self, pid: u32) -> Result<(), TargetError> {
        self.attachments.add(&mut self.world, pid, true)
    }

    /// A process that runs and is traced.
    pub fn traced(&mut self, pid: u32) {
        self.start(pid);
        self.add(pid).expect("traced");
        assert_eq!((self.world.links_of(pid), self.counts(pid)), (2, true));
    }

    pub fn counts(&self, pid: u32) -> bool {
        self.world.counting().contains(&pid)
    }

    /// As a session does when it is woken.
    pub fn handle(&mut self) {
        let Self { world, attachments, .. } = self;
        world.read_processes();
        for event in std::mem::take(&mut world.events) {
            attachments.take(world, &event);
        }
        attachments.look_at_due(world);
    }

    /// As it does once a second.
    pub fn drain(&mut self) {
        let Self { world, attachments, .. } = self;
        world.read_processes();
        attachments.adopt_new_records(world);
        attachments.look_after_leaderless(world);
        attachments.look_for_ended(world);
        // Others look more often: in the midst of an exec, too.
        attachments.look_for_ended(world);
        world.kernel.now_ns += 2_000_000_000;
        attachments.look_at_checks(world);
    }

    pub fn look(&mut self) {
        self.handle();
        self.drain();
    }

    /// What is wrong with a target that was named, if anything is, and what is told of it.
    pub fn told(&mut self) -> (Vec<Note>, Vec<u32>) {
        let untraceable = self.attachments.untraceable().map(|process| process.pid).collect();
        (std::mem::take(&mut self.world.notes), untraceable)
    }

    /// Ends the session: what was placed is gone, each link once.
    pub fn end(mut self) {
        self.world.end_counting();
        self.attachments.look_at_checks_last(&mut self.world);
        drop(self.attachments.end());
        self.attachments.wait();
        self.world.check_end();
    }
}

const MOMENTS: [Moment; 8] = [Discover, Register, Attach(0), Attached(0), Attach(1), Attached(1), Arm, Armed];

#[test]
fn a_target_that_vanishes_at_any_moment_of_attaching_leaves_nothing() {
    for moment in MOMENTS {
        let mut run = Run::new(BY_PROCESS, 10);
        run.traced(6);
        run.start(7);
        run.world.at(moment, 7, |world| world.exit(7));
        let gone = run.add(7);
        assert_eq!(gone.is_ok(), matches!(moment, Attached(1) | Arm | Armed), "{moment:?}: {gone:?}");
        run.traced(8);
        run.look();
        run.look();
        assert_eq!(run.world.running(), [6, 8], "{moment:?}");
        assert_eq!(run.world.counting(), [6, 8], "{moment:?}");
        assert_eq!((run.world.links_of(6), run.world.links_of(8)), (2, 2));
        assert_eq!(run.told(), (vec![], vec![]), "{moment:?}");
        run.end();
    }
}

#[test]
fn one_of_many_that_vanishes_is_no_error_and_no_fact() {
    for moment in MOMENTS {
        let mut run = Run::new(How { unnamed: true, ..BY_PROCESS }, 10);
        run.start(7);
        run.start(8);
        run.world.at(moment, 7, |world| world.exit(7));
        for pid in [7, 8] {
            run.attachments.add_one_of_many(&mut run.world, pid, true).expect("no error");
        }
        run.look();
        assert_eq!((run.world.running(), run.world.counting()), (vec![8], vec![8]), "{moment:?}");
        assert_eq!(run.told(), (vec![], vec![]), "{moment:?}");
        run.end();
    }
}

#[test]
fn one_that_ends_before_it_is_a_target_is_none_though_nobody_waits_for_it() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.start(7);
    run.world.at(Register, 7, |world| world.end(7));
    let gone = run.add(7).expect_err("gone");
    assert!(matches!(gone, TargetError::Discover { pid: 7, .. }), "{gone:?}");
    run.look();
    assert_eq!((run.world.running(), run.world.links()), (vec![], (0, 0)));
    run.end();
}

#[test]
fn one_of_whose_exit_the_kernel_side_does_not_hear_is_missed() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.traced(7);
    run.world.exit_unheard(7);
    for _ in 0..4 {
        run.look();
    }
    assert_eq!((run.world.running(), run.world.counting()), (vec![6], vec![6]));
    assert!(!run.attachments.probed.contains_key(&7));
    run.end();
}

#[test]
fn one_that_vanishes_while_it_is_looked_at_again_leaves_nothing() {
    for moment in [Discover, Attach(2), Attached(2), Arm, Armed] {
        let mut run = Run::new(BY_PROCESS, 10);
        run.traced(6);
        run.traced(7);
        let plugin = run.world.file("plugin.so");
        run.world.map(7, &plugin);
        run.world.at(moment, 7, |world| world.exit(7));
        run.look();
        run.look();
        assert_eq!((run.world.running(), run.world.counting()), (vec![6], vec![6]), "{moment:?}");
        let late = run.told().0.iter().any(|note| matches!(note, Note::ProbedLate { pid: 7, .. }));
        assert_eq!(late, matches!(moment, Attached(2) | Arm | Armed), "{moment:?}");
        run.end();
    }
}

#[test]
fn a_library_that_is_mapped_later_is_probed_and_told_of() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    let plugin = run.world.file("plugin.so");
    run.world.map(7, &plugin);
    run.look();
    assert_eq!(run.world.links_of(7), 3);
    let (notes, _) = run.told();
    let [Note::ProbedLate { pid: 7, files, .. }] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(files.len() == 1 && files[0].ends_with("plugin.so"), "{files:?}");
    // What it maps once more is probed already.
    run.world.map(7, &plugin);
    run.look();
    assert_eq!((run.world.links_of(7), run.told().0), (3, vec![]));
    run.end();
}

#[test]
fn a_process_that_ends_before_its_library_is_looked_at_is_told_of() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    run.handle();
    // Its mappings as the kernel tells of them, in a file that cannot be opened any more.
    let record = run.world.index_of(7).expect("a target");
    let code = crate::process::maps::parse(b"5000-6000 r-xp 00000000 fe:01 9 /gone.so\n");
    run.world.builder.add_code(&mut run.world.kernel, record, &code[0], None);
    let plugin = run.world.file("plugin.so");
    run.world.map(7, &plugin);
    run.world.exit(7);
    run.look();
    let (notes, _) = run.told();
    let [Note::EndedUnseen { pid: 7, files, opened: false, .. }] = notes.as_slice() else {
        panic!("{notes:?}")
    };
    assert_eq!(files, &["/gone.so"]);
    let process = run.world.builder.process_mut(record).expect("a process");
    assert!(!process.allocators.is_empty());
    run.end();
}

#[test]
fn a_process_without_its_first_thread_has_its_breakpoints_held_for_others() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.traced(7);
    for thread in 71..=75 {
        run.world.start_thread(7, thread);
    }
    run.world.exit_thread(7, 7, false);
    run.look();
    let threads =
        |run: &Run, purpose| -> BTreeSet<u32> { run.world.links_for(7, purpose).into_iter().collect() };
    assert_eq!((threads(&run, Counting), threads(&run, Holding)), ([7].into(), [71, 72, 73].into()));
    assert_eq!(run.told(), (vec![], vec![]));
    // One of these threads goes, too.
    run.world.exit_thread(7, 72, false);
    run.look();
    run.attachments.wait();
    assert_eq!(threads(&run, Holding), [71, 73, 74].into());
    // Another tracer was faster: what was missed is told.
    run.world.exit_thread(7, 71, true);
    run.look();
    run.attachments.wait();
    let (notes, _) = run.told();
    assert!(matches!(notes.as_slice(), [Note::BreakpointsGone { pid: 7, .. }]), "{notes:?}");
    assert!(run.counts(7));
    // A library comes: its breakpoints are held, too.
    let plugin = run.world.file("plugin.so");
    run.world.map(7, &plugin);
    run.look();
    run.attachments.wait();
    assert_eq!((run.world.links_of(7), run.world.links_for(7, Holding).len()), (3, 3 * 3));
    // An exec gives it a first thread again.
    run.world.exec(7, &[run.program.clone(), run.libc.clone()]);
    run.look();
    run.attachments.wait();
    assert_eq!((threads(&run, Holding), run.world.counting()), (BTreeSet::new(), vec![6, 7]));
    assert!(!run.attachments.leaderless.contains(7));
    run.end();
}

#[test]
fn what_holds_breakpoints_goes_with_the_process() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    run.world.start_thread(7, 71);
    run.world.exit_thread(7, 7, false);
    run.look();
    assert_eq!(run.world.in_place(Holding), 2);
    run.world.exit(7);
    run.look();
    run.attachments.wait();
    assert_eq!((run.world.in_place(Holding), run.world.in_place(Verifying)), (0, 0));
    run.end();
}

#[test]
fn one_that_vanishes_when_its_first_thread_does_holds_nothing() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    run.world.start_thread(7, 71);
    run.world.exit_thread(7, 7, true);
    run.world.exit(7);
    run.look();
    run.attachments.wait();
    assert_eq!((run.world.links_for(7, Holding), run.told()), (vec![], (vec![], vec![])));
    assert!(run.world.running().is_empty());
    run.end();
}

#[test]
fn probes_that_go_with_a_thread_are_placed_by_way_of_another() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.world.links_cover_processes = false;
    run.traced(7);
    run.world.start_thread(7, 71);
    run.world.start_thread(7, 72);
    run.world.exit_thread(7, 7, false);
    run.look();
    // Those of before wait for others to go with.
    assert_eq!((run.world.links_for(7, Counting), run.counts(7)), (vec![7, 7, 71, 71], true));
    run.world.exit_thread(7, 71, false);
    run.look();
    assert_eq!((run.world.links_for(7, Counting), run.counts(7)), (vec![7, 7, 71, 71, 72, 72], true));
    let (notes, _) = run.told();
    let [
        Note::ProbesMoved { pid: 7, first_thread: true, missed_ns: Some(_) },
        Note::ProbesMoved { pid: 7, first_thread: false, missed_ns: Some(_) },
    ] = notes.as_slice()
    else {
        panic!("{notes:?}")
    };
    run.end();
}

#[test]
fn where_no_other_thread_can_be_probed_nothing_counts_any_more() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.world.links_cover_processes = false;
    run.traced(7);
    run.world.start_thread(7, 71);
    run.world.exit_thread(7, 7, false);
    // Between two files.
    run.world.at(Attach(3), 7, |world| world.exit_thread(7, 71, false));
    run.look();
    assert!(run.world.counting().is_empty());
    let (notes, _) = run.told();
    assert!(matches!(notes.as_slice(), [Note::ProbesMoved { missed_ns: None, .. }]), "{notes:?}");
    run.end();
}

#[test]
fn a_process_is_attached_to_by_the_threads_that_are_left() {
    for covers in [true, false] {
        let mut run = Run::new(BY_PROCESS, 10);
        run.world.links_cover_processes = covers;
        run.start(7);
        run.world.start_thread(7, 71);
        run.world.exit_thread(7, 7, false);
        run.add(7).expect("traced");
        let placed_by = if covers { 7 } else { 71 };
        assert_eq!((run.world.links_for(7, Counting), run.counts(7)), (vec![placed_by; 2], true));
        let held = if covers { vec![71; 2] } else { vec![] };
        assert_eq!((run.world.links_for(7, Holding), run.world.links_for(7, Verifying)), (held, vec![]));
        run.end();
    }
}

#[test]
fn a_child_is_given_its_parents_probes() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.world.fork(6, 7);
    assert!(!run.counts(7));
    run.handle();
    assert_eq!((run.world.links_of(7), run.world.counting()), (2, vec![6, 7]));
    // And its child from it, once the parent is gone.
    run.world.exit(6);
    run.world.fork(7, 8);
    run.look();
    assert_eq!((run.world.links_of(8), run.world.counting()), (2, vec![7, 8]));
    assert_eq!(run.told(), (vec![], vec![]));
    run.end();
}

#[test]
fn once_it_is_over_nothing_is_placed_and_what_was_not_is_told_of() {
    let mut run = Run::new(BY_PROCESS, 10);
    for pid in [6, 7] {
        run.traced(pid);
    }
    run.handle();
    let plugin = run.world.file("plugin.so");
    run.world.fork(6, 8);
    run.world.map(6, &plugin);
    run.world.exit(7);
    run.world.end_counting();
    run.attachments.look_at_checks_last(&mut run.world);
    let links = run.attachments.end();
    // Others are still on their way when the events are looked at.
    let (made, _) = run.world.links();
    run.look();
    assert_eq!((run.world.links().0, run.world.counting()), (made, vec![]));
    let (notes, _) = run.told();
    let [Note::ProbedLate { pid: 6, .. }] = notes.as_slice() else { panic!("{notes:?}") };
    drop(links);
    run.attachments.wait();
    run.world.check_end();
}

#[test]
fn probes_that_went_with_an_exec_which_is_looked_at_once_it_is_over_are_told_of() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    run.handle();
    run.world.exec_by_another(7, &[run.libc.clone()]);
    run.world.end_counting();
    let links = run.attachments.end();
    run.look();
    let (notes, _) = run.told();
    let [Note::ProbedLate { pid: 7, .. }] = notes.as_slice() else { panic!("{notes:?}") };
    drop(links);
    run.attachments.wait();
    run.world.check_end();
}

#[test]
fn a_child_that_vanishes_while_it_is_given_its_probes_leaves_nothing() {
    for moment in [Attach(0), Attached(0), Attach(1), Attached(1), Arm, Armed] {
        let mut run = Run::new(BY_PROCESS, 10);
        run.traced(6);
        run.world.fork(6, 7);
        run.world.at(moment, 7, |world| world.exit(7));
        run.look();
        run.look();
        assert_eq!((run.world.running(), run.world.counting()), (vec![6], vec![6]), "{moment:?}");
        assert_eq!(run.told(), (vec![], vec![]), "{moment:?}");
        run.end();
    }
}

#[test]
fn a_child_that_execs_while_it_is_given_its_probes_counts_in_its_new_image() {
    for moment in [Attach(0), Attached(1), Arm] {
        let mut run = Run::new(BY_PROCESS, 10);
        run.traced(6);
        run.world.fork(6, 7);
        let files = [run.libc.clone()];
        run.world.at(moment, 7, move |world| world.exec(7, &files));
        run.handle();
        let record = run.world.index_of(7).expect("a target");
        assert!(run.world.is_armed(record), "{moment:?}");
        run.look();
        assert_eq!((run.world.running(), run.world.links_of(7)), (vec![6, 7], 2), "{moment:?}");
        run.end();
    }
}

#[test]
fn a_child_of_which_no_event_tells_counts_nothing() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.world.fork(6, 7);
    run.world.events.clear();
    run.look();
    assert_eq!((run.world.running(), run.world.counting()), (vec![6, 7], vec![6]));
    // Until it is heard of.
    run.world.exec(7, &[run.libc.clone()]);
    run.look();
    assert_eq!((run.world.links_of(7), run.world.counting()), (1, vec![6, 7]));
    run.end();
}

#[test]
fn an_exec_by_another_thread_than_the_first_has_its_probes_placed_again() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.traced(7);
    run.world.start_thread(7, 71);
    run.world.exec_by_another(7, &[run.libc.clone()]);
    run.look();
    // Those for the thread that is gone are gone with it: with the new ones, each call would be seen twice.
    assert_eq!((run.world.links_of(7), run.world.counting()), (1, vec![6, 7]));
    let (notes, untraceable) = run.told();
    assert!(untraceable.is_empty(), "{untraceable:?}");
    // What was not seen meanwhile is said.
    assert!(notes.iter().any(|note| matches!(note, Note::ProbedLate { pid: 7, .. })), "{notes:?}");
    run.end();
}

#[test]
fn a_pid_that_is_used_again_unheard_is_probed_anew() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.traced(7);
    run.world.exit(7);
    run.world.fork(6, 7);
    run.world.events.clear();
    run.look();
    run.world.exec(7, &[run.libc.clone()]);
    run.look();
    assert_eq!((run.world.links_of(7), run.world.counting()), (1, vec![6, 7]));
    run.end();
}

#[test]
fn an_exec_of_which_no_event_tells_is_found_by_its_record() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    let allocator = run.world.file("libjemalloc.so");
    run.world.exec(7, &[run.libc.clone(), allocator]);
    run.world.events.clear();
    run.look();
    assert_eq!((run.world.links_of(7), run.world.counting()), (3, vec![7]));
    run.end();
}

#[test]
fn an_exec_in_the_midst_of_attaching_counts_in_the_new_image() {
    for moment in [Register, Attach(0), Attached(0), Attached(1), Arm, Armed] {
        let mut run = Run::new(BY_PROCESS, 10);
        run.start(7);
        let files = [run.libc.clone(), run.world.file("libjemalloc.so")];
        run.world.at(moment, 7, move |world| world.exec(7, &files));
        // As it seems; the rest is for the next look.
        let _ = run.add(7);
        // Its linker goes on.
        run.world.map(7, &run.libc);
        run.look();
        let record = run.world.index_of(7).expect("a target");
        assert!(run.world.is_armed(record), "{moment:?}");
        assert_eq!((run.world.links_of(7), run.world.running()), (3, vec![7]), "{moment:?}");
        run.end();
    }
}

#[test]
fn an_exec_between_two_looks_keeps_its_probes_and_is_told_of_what_is_new() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(7);
    for _ in 0..3 {
        run.world.exec(7, &[run.libc.clone()]);
    }
    run.look();
    assert_eq!((run.world.links_of(7), run.world.counting()), (2, vec![7]));
    assert_eq!(run.told(), (vec![], vec![]));
    run.end();
}

#[test]
fn of_several_execs_the_last_ones_image_is_looked_at() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.world.fork(6, 7);
    run.world.events.clear();
    for _ in 0..3 {
        run.world.exec(7, &[run.libc.clone()]);
    }
    run.handle();
    assert_eq!((run.world.links_of(7), run.world.counting()), (1, vec![6, 7]));
    run.end();
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.traced(7);
    run.world.exit(7);
    run.world.fork(6, 7);
    run.look();
    assert_eq!(run.world.counting(), [6, 7]);
    let new = run.world.links().0;
    assert_eq!(new, 2 + 2 + 2, "it was given the probes of the one before");
    run.end();
}

#[test]
fn the_probes_of_a_process_of_whose_exit_no_event_tells_go_too() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(6);
    run.traced(7);
    run.traced(8);
    run.world.exit(7);
    run.world.exit(8);
    run.world.events.clear();
    // The next with its PID: at once, or much later.
    run.world.fork(6, 7);
    run.look();
    assert_eq!((run.world.counting(), run.world.links_of(7)), (vec![6, 7], 2));
    run.look();
    assert!(!run.attachments.probed.contains_key(&8));
    run.world.fork(6, 8);
    run.look();
    assert_eq!((run.world.counting(), run.world.links_of(8)), (vec![6, 7, 8], 2));
    run.end();
}

#[test]
fn a_child_without_probes_that_loses_its_first_thread_goes_on_without() {
    for covers in [true, false] {
        let mut run = Run::new(BY_PROCESS, 10);
        run.world.links_cover_processes = covers;
        run.traced(6);
        run.world.fork(6, 7);
        run.world.events.clear();
        run.world.start_thread(7, 71);
        run.world.exit_thread(7, 7, false);
        run.look();
        assert_eq!((run.world.counting(), run.told()), (vec![6], (vec![], vec![])), "{covers}");
        run.end();
    }
}

#[test]
fn without_room_nothing_is_placed_and_others_are_as_they_were() {
    let mut run = Run::new(BY_PROCESS, 2);
    run.traced(6);
    run.traced(7);
    run.start(8);
    let full = run.add(8).expect_err("no room");
    assert!(matches!(full, TargetError::TableFull), "{full:?}");
    let why = run.attachments.leave_out_named(&mut run.world, 8, full);
    assert!(why.contains("--max-processes"), "{why}");
    let (notes, untraceable) = run.told();
    let [Note::ProbesNotPlaced { pid: 8, reason }] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(reason.contains("--max-processes") && untraceable.is_empty(), "{reason}");
    // Neither do children nor images find any.
    run.world.fork(6, 9);
    run.look();
    run.world.exec(7, &[run.libc.clone()]);
    run.look();
    assert_eq!((run.world.links_of(8), run.world.links_of(9)), (0, 0));
    assert_eq!((run.world.counting(), run.world.links_of(6)), (vec![6], 2));
    run.end();
}

#[test]
fn one_whose_code_is_not_its_files_is_left_out_and_told_of() {
    // Before any probe, with some in place, and once it is traced.
    for moment in [Some(Discover), Some(Attached(1)), None] {
        let mut run = Run::new(BY_PROCESS, 10);
        run.traced(6);
        match moment {
            Some(moment) => {
                run.start(7);
                run.world.at(moment, 7, |world| world.patch(7));
                let refused = run.add(7).expect_err("refused");
                run.attachments.leave_out_named(&mut run.world, 7, refused);
            }
            None => {
                run.traced(7);
                run.world.patch(7);
                let plugin = run.world.file("plugin.so");
                run.world.map(7, &plugin);
            }
        }
        run.look();
        assert_eq!((run.world.links_of(7), run.world.is_excluded(7)), (0, true), "{moment:?}");
        assert_eq!((run.world.running(), run.world.counting()), (vec![6], vec![6]), "{moment:?}");
        assert_eq!(run.told(), (vec![], vec![7]), "{moment:?}");
        run.end();
    }
}

#[test]
fn a_process_is_let_go_of_with_its_children_those_under_way_too() {
    let mut run = Run::new(BY_PROCESS, 10);
    run.traced(5);
    run.traced(6);
    run.world.fork(6, 7);
    run.look();
    run.world.fork(7, 8);
    let mut removed = run.attachments.remove(&mut run.world, 6).expect("removed");
    removed.sort_unstable();
    assert_eq!(removed, [6, 7, 8]);
    assert_eq!((run.world.links().1, run.world.counting()), (2, vec![5]));
    run.look();
    assert_eq!((run.world.links().1, run.world.running()), (2, vec![5]));
    run.end();
}

#[test]
fn links_of_many_that_ended_go_while_tracing() {
    let mut run = Run::new(BY_PROCESS, 300);
    run.traced(6);
    for child in 100..300 {
        run.world.fork(6, child);
        run.handle();
        run.world.exit(child);
        run.handle();
    }
    run.attachments.wait();
    let (made, in_place) = run.world.links();
    assert_eq!(made, 2 + 2 * 200);
    assert!(in_place < 2 + 128, "{in_place}");
    run.end();
}

#[test]
fn probes_for_all_are_placed_once_and_stay() {
    let mut run = Run::new(How { per_process: false, ..BY_PROCESS }, 10);
    run.start(6);
    run.start(7);
    run.add(6).expect("traced");
    run.add(7).expect("traced");
    assert_eq!((run.world.links(), run.world.counting()), ((2, 2), vec![6, 7]));
    run.world.exit(6);
    run.look();
    assert_eq!((run.world.links(), run.world.counting()), ((2, 2), vec![7]));
    run.end();
}

/// What was seen of a function that is not as its code says.
const WRONG: Check = Check {
    open: 1,
    glibc: 0,
    calls: 100,
    seen: 100,
    other_size: 1,
    other_return: 0,
    no_result: 0,
    unannounced: 0,
    left: 0,
    not_kept: 0,
};

/// The same of one that is.
const ENOUGH: Check = Check { calls: 1 << 20, seen: 1 << 20, other_size: 0, ..WRONG };

#[test]
fn functions_are_verified_in_few_processes_until_they_are_believed() {
    let mut run = Run::new(BY_PROCESS, 20);
    let verified = |run: &Run| (1..=6).filter(|pid| !run.world.links_for(*pid, Verifying).is_empty()).count();
    for pid in 1..=6 {
        run.traced(pid);
    }
    assert_eq!(verified(&run), 4);
    // Another takes the place of one that ends.
    run.world.exit(1);
    run.look();
    run.world.fork(2, 1);
    run.look();
    assert_eq!((run.world.links_for(1, Verifying).len(), verified(&run)), (4, 4));
    run.world.checks.have_seen(ENOUGH);
    run.attachments.let_go_of_verified(&mut run.world);
    run.attachments.wait();
    assert_eq!((verified(&run), run.told()), (0, (vec![], vec![])));
    assert_eq!(run.world.counting(), [1, 2, 3, 4, 5, 6]);
    run.end();
}

#[test]
fn probes_of_a_function_that_is_not_as_its_code_says_are_placed_anew_everywhere() {
    // Nothing happens, or one of the processes vanishes meanwhile: its first probes were the first and second.
    for moment in [None, Some(Discover), Some(Attach(2)), Some(Attached(3)), Some(Arm)] {
        let mut run = Run::new(BY_PROCESS, 20);
        for pid in 6..9 {
            run.traced(pid);
        }
        if let Some(moment) = moment {
            run.world.at(moment, 7, |world| world.exit(7));
        }
        run.world.checks.have_seen(WRONG);
        run.drain();
        // What is seen from here on is right.
        run.world.checks.have_seen(ENOUGH);
        run.look();
        run.look();
        let left: Vec<u32> = if moment.is_none() { vec![6, 7, 8] } else { vec![6, 8] };
        assert_eq!(run.world.counting(), left, "{moment:?}");
        assert!(left.iter().all(|pid| run.world.links_of(*pid) == 2), "{moment:?}");
        let (notes, untraceable) = run.told();
        assert!(untraceable.is_empty() && !notes.is_empty());
        assert!(notes.iter().all(|note| matches!(note, Note::Distrusted { .. })), "{notes:?}");
        run.end();
    }
}

/// As good as random, and the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % most
    }
}

#[test]
fn a_storm_of_forks_execs_and_exits_leaves_nothing_however_events_are_lost() {
    const PIDS: u32 = 40;
    for (seed, covers, loses) in [(1, true, false), (2, false, false), (3, true, true), (4, false, true)] {
        let mut run = Run::new(BY_PROCESS, 20_000);
        run.world.links_cover_processes = covers;
        run.traced(1);
        let mut dice = Dice(seed);
        let mut alive = vec![1];
        for step in 0..4_000 {
            let pid = alive[dice.below(alive.len() as u32) as usize];
            let other = 2 + dice.below(PIDS);
            let files = [run.libc.clone(), run.program.clone()];
            let is_free = !alive.contains(&other);
            match dice.below(8) {
                0..=2 if is_free => {
                    run.world.fork(pid, other);
                    alive.push(other);
                    if dice.below(4) == 0 {
                        let moment = [Attach, Attached][dice.below(2) as usize](run.world.attempts(other));
                        run.world.at(moment, other, move |world| {
                            if world.exists(other) {
                                world.exec(other, &files);
                            }
                        });
                    }
                }
                3 => run.world.exec(pid, &files[..1 + dice.below(2) as usize]),
                4 if pid != 1 => {
                    run.world.exit(pid);
                    alive.retain(|of| *of != pid);
                }
                5 if run.world.threads(pid) == [pid] => {
                    run.world.start_thread(pid, 1_000 + 2 * step);
                    run.world.start_thread(pid, 1_001 + 2 * step);
                    run.world.exit_thread(pid, pid, dice.below(2) == 0);
                }
                6 if loses && dice.below(4) == 0 => run.world.events.clear(),
                _ => run.handle(),
            }
            if step % 50 == 0 {
                run.look();
            }
        }
        run.world.forget_happenings();
        run.look();
        run.look();
        run.look();
        alive.sort_unstable();
        let (running, counting) = (run.world.running(), run.world.counting());
        // A perf event that went with its thread is not found by the image that another thread begins: that is refused.
        assert!(!covers || running == alive, "{seed}: {running:?} of {alive:?}");
        assert!(running.iter().all(|pid| alive.contains(pid)), "{seed}: {running:?} of {alive:?}");
        assert!(loses || !covers || counting == alive, "{seed}: {counting:?} of {alive:?}");
        assert!(counting.iter().all(|pid| running.contains(pid)), "{seed}: {counting:?} of {running:?}");
        let probed: Vec<&u32> = run.attachments.probed.keys().filter(|pid| !running.contains(pid)).collect();
        assert!(probed.is_empty(), "{seed}: {probed:?} are kept");
        run.end();
    }
}
