//! What is known of the memory that processes hold, by record.

use super::weighing::Weighted;
use crate::{
    growth::{Origins, What},
    model::Amount,
};
use std::collections::HashMap;

/// See the module.
pub(super) struct Followed {
    pub what: What,
    page: u64,
    pub huge_page: u64,
    pub by_record: HashMap<u32, Origins>,
}

impl Followed {
    pub fn new(what: What, page: u64, huge_page: u64) -> Self {
        Self { what, page, huge_page, by_record: HashMap::new() }
    }

    pub fn of_record(&mut self, record: u32) -> &mut Origins {
        let Self { what, page, .. } = *self;
        self.by_record.entry(record).or_insert_with(|| Origins::new(what, page))
    }

    /// What a range stands for: itself, or its pages.
    pub fn amount(&self, start: u64, end: u64) -> Weighted {
        let bytes = end - start;
        let count = match self.what {
            What::Mapped => 1,
            What::Touched => bytes / self.page,
        };
        Weighted::of_memory(Amount { bytes, count })
    }
}
