//! Keeping up with what names code that processes generate: their perf maps are looked for, held, and let go of.

use super::{Session, symbol_job::SymbolJob};
use crate::model::Note;

impl Session {
    /// Looks for perf maps, and lets go of those that are not needed any more, or must not be held. For once a second, when all
    /// places were read.
    pub(super) fn look_after_perf_maps(&mut self) {
        self.builder.generating().for_each(|record| self.perf_maps.want(record));
        self.perf_maps.look_for_many(&self.builder);
        let (named, missing) = self.early_names.take();
        named.into_iter().for_each(|id| self.perf_maps.let_go(id));
        let deleted = self.perf_maps.let_go_of_deleted(&self.builder);
        let missing = missing.into_iter().map(|what| Note::NamesMissing { what });
        deleted.into_iter().chain(missing).for_each(|note| self.notes.take(note));
        let ended = self.perf_maps.ended(&self.builder);
        // In the end all are looked up anyway.
        if !ended.is_empty() && self.early_names.is_free() && !self.counting.is_over() {
            let job =
                SymbolJob::of_ended(&self.builder.symbol_inputs(), &ended, self.started_ns, &self.perf_maps);
            self.early_names.begin(ended, job);
        }
    }
}
