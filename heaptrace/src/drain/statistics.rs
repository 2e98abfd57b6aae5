//! What `stat` has counted, from process records to processes.

use super::{ProfileBuilder, kernel::KernelTables};
use crate::model::Statistics;
use heaptrace_common::{
    function::Function,
    statistics::{LIFETIMES, StatisticsRecord},
};

impl ProfileBuilder {
    /// The statistics of each process, by `ProcessId`. After [`Self::read_processes`].
    pub fn statistics(&self, maps: &impl KernelTables) -> Vec<Statistics> {
        let mut all = vec![Statistics::default(); self.table.count()];
        for (id, retired) in &self.retired_statistics {
            if let Some(sum) = all.get_mut(id.index()) {
                sum.clone_from(retired);
            }
        }
        for (record, id) in self.shown_records() {
            let sum = all.get_mut(id.index());
            if let (Some(sum), Some(statistics)) = (sum, maps.statistics(record)) {
                add(sum, &statistics);
            }
        }
        all
    }
}

/// Adds what was counted of one record.
pub(super) fn add(to: &mut Statistics, record: &StatisticsRecord) {
    let StatisticsRecord { lifetimes, frees, free_bytes, failed } = record;
    for (sum, count) in to.lifetimes.iter_mut().zip(lifetimes.iter().take(LIFETIMES)) {
        *sum += count;
    }
    for function in Function::ALL {
        let slot = function as usize;
        if frees[slot] > 0 || failed[slot] > 0 {
            let calls = to.functions.entry(function).or_default();
            calls.frees += frees[slot];
            calls.free_bytes += free_bytes[slot];
            calls.failed += failed[slot];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FunctionStatistics;
    use heaptrace_common::statistics::{FUNCTION_SLOTS, LIFETIME_SLOTS};

    #[test]
    fn the_images_of_a_process_add_up() {
        let mut record = StatisticsRecord {
            lifetimes: [0; LIFETIME_SLOTS],
            frees: [0; FUNCTION_SLOTS],
            free_bytes: [0; FUNCTION_SLOTS],
            failed: [0; FUNCTION_SLOTS],
        };
        record.lifetimes[2] = 3;
        record.frees[Function::Free as usize] = 3;
        record.free_bytes[Function::Free as usize] = 77;
        record.failed[Function::Malloc as usize] = 1;
        let mut sum = Statistics::default();
        add(&mut sum, &record);
        add(&mut sum, &record);
        assert_eq!((sum.lifetimes[2], sum.lifetimes[1]), (6, 0));
        let expected = [
            (Function::Malloc, FunctionStatistics { failed: 2, ..FunctionStatistics::default() }),
            (Function::Free, FunctionStatistics { frees: 6, free_bytes: 154, failed: 0 }),
        ];
        assert_eq!(sum.functions.into_iter().collect::<Vec<_>>(), expected);
    }
}
