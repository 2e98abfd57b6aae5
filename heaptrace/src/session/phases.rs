//! When calls count: one write begins it for all processes and one write ends it, as probes come and go one after the
//! other. And what others pay where probes are for all.

use super::{Session, monotonic_ns};
use crate::model::Note;
use heaptrace_common::record::phase;
use std::time::Instant;

impl Session {
    /// Where probes are for all processes: until all are placed.
    pub(super) fn wait_to_count(&mut self) {
        if !self.per_process {
            self.tracer.maps.set_phase(phase::BEFORE);
        }
    }

    /// The targets' probes are in place.
    pub(super) fn begin_counting(&mut self) {
        if !self.counting.any_counts {
            self.counting.any_counts = true;
            self.counting.started = Instant::now();
            // What is read first was nothing now.
            self.builder.reads_at(monotonic_ns());
        }
        if !self.per_process && self.counting.from_ns == 0 {
            self.tracer.maps.set_phase(phase::COUNTING);
            self.counting.from_ns = monotonic_ns();
        }
    }

    /// Before any probe is taken away.
    pub(super) fn end_counting(&mut self) {
        if self.counting.over.is_none() {
            self.tracer.maps.set_phase(phase::OVER);
            self.counting.over = Some((Instant::now(), monotonic_ns()));
        }
    }

    /// What processes that are not traced pay, to be said when tracing begins.
    pub fn price_for_others(&self) -> Option<String> {
        self.attachments.shared().who().map(|who| {
            format!(
                "children are traced from their first call: until the end {who} takes a trap at each of its calls, \
                 0.5 to 1 us (--no-exact-children spares them)"
            )
        })
    }

    /// The same, for the report.
    pub(super) fn price_paid(&self) -> Option<Note> {
        self.attachments.shared().files().map(|(files, more)| Note::TrapsForOthers { files, more })
    }
}
