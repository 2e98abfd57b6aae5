//! What the kernel lacks, as facts.

use crate::{
    bpf::{Features, Placed},
    model::{Note, Notes},
};

/// What had to be done otherwise than usual, as the kernel lacks something.
pub(super) fn of_features(features: &Features) -> Notes {
    let probes = (features.probes && !features.multi_filter)
        .then_some(Note::PerfEventProbes { filter_by_thread: features.multi_links });
    let growth = match &features.growth {
        Placed::Off => Some(Note::GrowthOff),
        Placed::On => None,
        Placed::Unavailable(why) => Some(Note::GrowthUnavailable { reason: why.clone() }),
    };
    let faults = match &features.faults {
        Placed::Unavailable(why) => Some(Note::FaultsUnavailable { reason: why.clone() }),
        Placed::Off | Placed::On => None,
    };
    probes.into_iter().chain(growth).chain(faults).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_noted() {
        let able = Features { probes: true, multi_links: true, multi_filter: true, ..Features::default() };
        let of = |features: &Features| -> Vec<Note> {
            let notes = of_features(&Features { growth: Placed::On, ..features.clone() });
            notes.kinds().iter().map(|cases| cases.worst().clone()).collect()
        };
        assert_eq!(of(&able), []);
        let by_thread = Features { multi_filter: false, ..able };
        assert_eq!(of(&by_thread), [Note::PerfEventProbes { filter_by_thread: true }]);
        let none = Features { multi_links: false, ..by_thread };
        assert_eq!(of(&none), [Note::PerfEventProbes { filter_by_thread: false }]);
        assert_eq!(of(&Features { probes: false, ..none }), []);
    }
}
