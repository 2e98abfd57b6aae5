//! Random functions, run by an interpreter: whatever sites are chosen, each call passes one that sees all of it, or one
//! that keeps its arguments and then one that sees its result; and what is seen there is what was asked for and what
//! comes back.

use super::*;
use crate::fixtures::{
    assembler::Program,
    random_machine::{Event, Machine},
    random_programs::{body, program},
};
use heaptrace_common::function::Shape;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const EMULATION: Emulation = Emulation { push: true, long_nops: false };

fn check(program: &Program, shape: Shape, seeds: &[u64]) -> Result<Option<Kind>, TestCaseError> {
    let image = program.image();
    let entry = program.at("entry");
    let Ok(cut) = analyse(&image, &Request { entry, shape, probed: &[entry], emulation: EMULATION }) else {
        return Ok(None);
    };
    let addresses: HashSet<u64> = cut.sites.iter().map(|site| site.address).collect();
    prop_assert_eq!(addresses.len(), cut.sites.len(), "two sites at one address");
    for seed in seeds {
        let mut machine = Machine::new(program, &cut.sites, *seed);
        let (first, second) = (machine.registers[7], machine.registers[6]);
        let asked = match shape {
            Shape::Size0 => first,
            Shape::Size1 | Shape::Resize => second,
            _ => first.wrapping_mul(second),
        };
        let Some(returned) = machine.run() else {
            let results = machine.events.iter().filter(|event| event.role != Role::Begin).count();
            prop_assert!(results <= 1, "{:?}", machine.events);
            continue;
        };
        if !machine.is_sane() {
            continue;
        }
        let seen = match machine.events.as_slice() {
            [whole @ Event { role: Role::Whole, .. }] => (whole.size, whole.result),
            [begin @ Event { role: Role::Begin, .. }, result @ Event { role: Role::Result, .. }] => {
                (begin.size, result.result)
            }
            other => return Err(TestCaseError::fail(format!("{other:?} of {:?}", cut.sites))),
        };
        prop_assert_eq!(seen.1, Some(returned), "{:?}", &cut.sites);
        if seen.0.is_some() || returned != 0 {
            prop_assert_eq!(seen.0, Some(asked), "{:?}", &cut.sites);
        }
    }
    Ok(Some(cut.kind))
}

fn check_free(program: &Program, seeds: &[u64]) -> Result<(), TestCaseError> {
    let image = program.image();
    let Ok(site) = one_site(&image, program.at("entry"), Shape::Free0, EMULATION) else { return Ok(()) };
    let sites = [CutSite { size: Place::Register(7), ..site }];
    for seed in seeds {
        let mut machine = Machine::new(program, &sites, *seed);
        let block = machine.registers[7];
        let returned = machine.run().is_some() && machine.is_sane();
        let hits = machine.events.len();
        prop_assert!(hits <= 1 && !machine.acted_before_site);
        prop_assert!(machine.events.iter().all(|event| event.size == Some(block)));
        prop_assert!(hits == 1 || block == 0 || !returned);
    }
    Ok(())
}

proptest! {
    #[test]
    fn each_call_is_seen_once_and_right(
        body in body(),
        other in body(),
        shared: bool,
        shape in prop::sample::select(vec![Shape::Size0, Shape::Size1, Shape::Product01, Shape::Resize]),
        seeds in prop::collection::vec(any::<u64>(), 12),
    ) {
        let program = program(&body, &other, shared);
        check(&program, shape, &seeds)?;
        check_free(&program, &seeds)?;
    }
}

/// The test above would pass if nothing were ever found.
#[test]
fn random_functions_have_cuts_of_all_kinds() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut found: HashMap<Option<Kind>, usize> = HashMap::new();
    for _ in 0..300 {
        let (body, other) = (body(), body()).new_tree(&mut runner).expect("a program").current();
        let kind = check(&program(&body, &other, true), Shape::Size0, &[1, 2, 3]).expect("seen once");
        *found.entry(kind).or_default() += 1;
    }
    for kind in [Kind::OneTrap, Kind::Stash, Kind::EntryAndExits, Kind::Stepped] {
        assert!(found.get(&Some(kind)).is_some_and(|count| *count >= 3), "{found:?}");
    }
}
