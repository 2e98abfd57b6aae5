//! What the judged build of heaptrace and the judge beside it say: the same table, each by its own means.
//!
//! `heaptrace-judged` is heaptrace with BPF programs that also add up what they account, by function and with addresses.
//! `heaptrace-judge` counts the same calls by sessions at entry and return, of which heaptrace itself has none.

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use heaptrace_common::{
    function::Function,
    judged::{FUNCTIONS, Tallies, Tally},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// The kernel's bytes of a [`Tallies`]; a type of this crate, for which it can say so.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Element(Tallies);

// SAFETY: integers without padding; any bytes are a value.
unsafe impl aya::Pod for Element {}

/// By the function's name; those that were called.
pub type Table = BTreeMap<&'static str, Row>;

/// Of each: how many, bytes, and the sum over addresses and sizes.
#[derive(Debug, Serialize)]
pub struct Row {
    pub allocated: [u64; 3],
    pub freed: [u64; 3],
    pub unknown: [u64; 3],
    pub failed: u64,
}

/// Empties the map `TALLIES`.
pub fn clear(map: &mut Map) {
    let map: Result<Array<&mut MapData, Element>, _> = map.try_into();
    if let Ok(mut map) = map {
        // What is not emptied is found where the tables are compared.
        (0..FUNCTIONS as u32).for_each(|number| drop(map.set(number, Element(Tallies::default()), 0)));
    }
}

/// The table in the map `TALLIES`.
///
/// # Errors
/// When the kernel does not give it.
pub fn table(map: &Map) -> Result<Table> {
    let map: Array<&MapData, Element> = map.try_into()?;
    let mut table = Table::new();
    for number in 0..FUNCTIONS as u32 {
        let Element(tallies) = map.get(&number, 0).context("failed to read the tallies")?;
        if tallies == Tallies::default() {
            continue;
        }
        let function = Function::from_number(number as u8).context("there is no such function")?;
        let Tallies { allocated, freed, unknown, failed } = tallies;
        let [allocated, freed, unknown] =
            [allocated, freed, unknown].map(|Tally { count, bytes, sum }| [count, bytes, sum]);
        table.insert(function.name(), Row { allocated, freed, unknown, failed });
    }
    Ok(table)
}
