//! What is placed of a file's sites. Several functions may come to their results by the same code; one probe there does
//! for all, as which call it ends is told by the call that began, whichever function's. What the kernel does to take
//! probes away grows with the cube of those at one place (kernel/events/uprobes.c, `register_for_each_vma` and
//! `filter_chain`).

use super::probe::Probe;
use heaptrace_common::probe::{OWN_CODE, OwnCode, ProbeRecord, Role};

/// File offsets and what hits there mean.
pub fn merged_sites(probes: &[Probe]) -> Vec<(u64, ProbeRecord)> {
    let mut placed: Vec<(u64, ProbeRecord)> = Vec::new();
    for site in probes.iter().flat_map(|probe| &probe.sites) {
        let same = |(offset, record): &&mut (u64, ProbeRecord)| {
            *offset == site.offset && are_one(record, &site.record)
        };
        match placed.iter_mut().find(same) {
            // The allocator's own calls began nowhere, for any of the functions.
            Some((_, record)) => {
                record.own_count = 0;
                record.own = [OwnCode::default(); OWN_CODE];
            }
            None => placed.push((site.offset, site.record)),
        }
    }
    placed
}

/// Whether two hits at one place end a kept call in the same way, whichever function began it, and are else nothing.
fn are_one(one: &ProbeRecord, other: &ProbeRecord) -> bool {
    let is_result = |record: &ProbeRecord| record.role == Role::Result as u8 && record.shared != 0;
    let says = |record: &ProbeRecord| (record.result, record.condition, record.pushed, record.caller_bp);
    is_result(one) && is_result(other) && says(one) == says(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::{cut::Kind, probe::Site};
    use heaptrace_common::{
        function::{Function, Shape},
        probe::Place,
    };

    fn result(function: Function, shared: u8, result: Place, from: i32) -> ProbeRecord {
        let mut record = ProbeRecord {
            shared,
            result: result.to_bits(),
            pushed: 40,
            from_entry: from,
            own_count: 1,
            ..ProbeRecord::new(function, Shape::Size1, Role::Result)
        };
        record.own[0] = OwnCode { start: from, end: from + 9 };
        record
    }

    fn probe(function: Function, sites: &[(u64, ProbeRecord)]) -> Probe {
        let site = |(offset, record): &(u64, ProbeRecord)| Site {
            offset: *offset,
            record: *record,
            emulated: true,
            text: String::new(),
            semaphore: 0,
        };
        Probe {
            symbol: "sample".to_owned(),
            function,
            shape: Shape::Size1,
            entry: 0,
            kind: Kind::EntryAndExits,
            sites: sites.iter().map(site).collect(),
            unseen_exits: 0,
            why: None,
            entered: None,
            ends_here: false,
        }
    }

    #[test]
    fn results_that_functions_share_are_one_probe_and_nobodys_own() {
        let rax = Place::Register(0);
        let one = result(Function::Memalign, 1, rax, 100);
        let other = result(Function::Valloc, 1, rax, 200);
        let begin = ProbeRecord::new(Function::Valloc, Shape::Size1, Role::Begin);
        let probes = [
            probe(Function::Memalign, &[(0x10, one)]),
            probe(Function::Valloc, &[(0x10, other), (0x20, begin)]),
        ];
        let kept = ProbeRecord { own_count: 0, own: [OwnCode::default(); OWN_CODE], ..one };
        assert_eq!(merged_sites(&probes), [(0x10, kept), (0x20, begin)]);
        assert_eq!(merged_sites(&probes[..1]), [(0x10, one)]);
    }

    #[test]
    fn what_tells_more_than_that_a_kept_call_ends_stays_apart() {
        let rax = Place::Register(0);
        let one = result(Function::Memalign, 1, rax, 100);
        for other in [
            result(Function::Valloc, 0, rax, 200),
            result(Function::Valloc, 1, Place::Zero, 200),
            ProbeRecord { pushed: 48, ..one },
            ProbeRecord { condition: 5, ..one },
            ProbeRecord { caller_bp: 21, ..one },
            ProbeRecord { role: Role::Whole as u8, ..one },
        ] {
            let probes =
                [probe(Function::Memalign, &[(0x10, one)]), probe(Function::Valloc, &[(0x10, other)])];
            assert_eq!(merged_sites(&probes), [(0x10, one), (0x10, other)]);
        }
    }
}
