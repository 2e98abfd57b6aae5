//! Tables that only grow, and of which what is new is handed out: of values that are told apart, numbered in order of
//! appearance, and of others that belong to such.

use std::{collections::HashMap, hash::Hash};

/// A table that remembers how much of it was handed out.
pub struct Appended<T> {
    pub items: Vec<T>,
    given: usize,
}

impl<T> Default for Appended<T> {
    fn default() -> Self {
        Self { items: Vec::new(), given: 0 }
    }
}

impl<T: Clone> Appended<T> {
    pub fn take_new(&mut self) -> Vec<T> {
        let new = self.items[self.given..].to_vec();
        self.given = self.items.len();
        new
    }
}

/// A table that gives equal values the same index.
pub struct Interner<T> {
    ids: HashMap<T, u32>,
    pub table: Appended<T>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { ids: HashMap::new(), table: Appended::default() }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    pub fn intern(&mut self, item: T) -> u32 {
        if let Some(id) = self.ids.get(&item) {
            return *id;
        }
        let id = self.table.items.len() as u32;
        self.table.items.push(item.clone());
        self.ids.insert(item, id);
        id
    }
}
