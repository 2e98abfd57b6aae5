//! The unwind tables of a session's processes, put in force as they are built and as code comes and goes.

use super::{Session, attachments::World as _};
use std::collections::BTreeSet;

impl Session {
    /// A walk of a record's process ended at an interrupted instruction: the exact rows of its file are wanted.
    pub(super) fn interrupted_at(&mut self, record: u32, address: u64) {
        let Some(unwinding) = &mut self.unwinding else { return };
        let code = self.builder.code(record);
        let at = code.iter().find(|code| (code.start..code.end).contains(&address));
        let Some((file, _)) = at.and_then(|code| code.file.as_ref()) else { return };
        if unwinding.want_exact(*file) {
            for user in unwinding.users(*file) {
                self.world().publish_code(user);
            }
        }
    }

    /// Tries again for the records that found no list.
    pub(super) fn publish_listless(&mut self) {
        let listless =
            self.unwinding.as_ref().map(|unwinding| unwinding.listless.clone()).unwrap_or_default();
        for record in listless {
            self.world().publish_code(record);
            if self.unwinding.as_ref().is_some_and(|unwinding| unwinding.listless.contains(&record)) {
                return;
            }
        }
    }

    /// Takes the tables that have been built.
    pub fn take_tables(&mut self) {
        let mut records = BTreeSet::new();
        if let Some(unwinding) = &mut self.unwinding {
            while let Ok(built) = unwinding.built.try_recv() {
                records.extend(unwinding.place(&mut self.tracer.unwind, built));
            }
        }
        for record in records {
            self.world().publish_code(record);
        }
    }
}
