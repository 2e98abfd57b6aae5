//! A table of distinct values, numbered in order of appearance.

use std::{collections::HashMap, hash::Hash};

/// A table that gives equal values the same index and remembers how much of it was handed out.
pub struct Interner<T> {
    ids: HashMap<T, u32>,
    pub items: Vec<T>,
    given: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { ids: HashMap::new(), items: Vec::new(), given: 0 }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    pub fn intern(&mut self, item: T) -> u32 {
        if let Some(id) = self.ids.get(&item) {
            return *id;
        }
        let id = self.items.len() as u32;
        self.items.push(item.clone());
        self.ids.insert(item, id);
        id
    }

    pub fn take_new(&mut self) -> Vec<T> {
        let new = self.items[self.given..].to_vec();
        self.given = self.items.len();
        new
    }
}
