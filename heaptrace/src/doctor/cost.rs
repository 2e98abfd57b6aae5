//! What a probe hit costs on this machine.

use super::diagnosis::{Attach, Cost};
use crate::bpf::trap_cost::{self, Effort, TrapCost};
use std::time::Duration;

/// Calls few enough for all rounds to take a quarter of a second where a hit takes 10 us, as in virtual machines.
const EFFORT: Effort = Effort { calls_per_round: 1000, rounds: 8, at_most: Duration::from_millis(700) };

/// Measures with probes as they would be placed, if they can be.
pub fn measure(attach: Option<Attach>) -> Cost {
    let nothing = Cost {
        measured_in: "heaptrace's own process",
        attach,
        calls_per_round: EFFORT.calls_per_round,
        rounds: 0,
        emulated_ns: None,
        single_stepped_ns: None,
        error: None,
    };
    let Some(attach) = attach else {
        return Cost { error: Some("probes cannot be placed here".to_owned()), ..nothing };
    };
    match trap_cost::measure(attach != Attach::PerfEvent, EFFORT) {
        Ok(TrapCost { rounds, emulated_ns, single_stepped_ns }) => Cost {
            rounds,
            emulated_ns: Some(emulated_ns),
            single_stepped_ns: Some(single_stepped_ns),
            ..nothing
        },
        Err(error) => Cost { error: Some(error.to_string()), ..nothing },
    }
}
