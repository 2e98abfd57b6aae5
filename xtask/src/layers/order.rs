//! The layers as ARCHITECTURE.md draws them, and the arrows that run back up.

use std::collections::HashMap;

use super::{circles::parting, tree::Arrow};

/// Opens the block; the crate's sources follow the word.
const FENCE: &str = "```layers ";

/// Which layer each file and folder of a crate's sources is in, from the roof (0) down.
#[derive(Debug)]
pub struct Order {
    /// As the block names it: `heaptrace/src`.
    pub sources: String,
    layers: HashMap<String, usize>,
}

/// Every block of a document. A paragraph is a layer, the highest first. Its lines begin with a file or folder, and say
/// what that owns; indented ones go on with it.
pub fn read(document: &str) -> Vec<Order> {
    let mut orders = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(sources) = line.strip_prefix(FENCE) else { continue };
        let mut layers = HashMap::new();
        let mut layer = 0;
        for line in lines.by_ref().take_while(|line| !line.starts_with("```")) {
            match line.split_whitespace().next() {
                None => layer += 1,
                Some(_) if line.starts_with(char::is_whitespace) => {}
                Some(name) => _ = layers.insert(name.trim_end_matches('/').to_owned(), layer),
            }
        }
        orders.push(Order { sources: sources.trim().to_owned(), layers });
    }
    orders
}

impl Order {
    /// Arrows that do not lead down, and what the block does not name or names in vain. Those of one layer do not know
    /// each other.
    pub fn broken_by<'a>(&self, arrows: &[Arrow], entries: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut known: Vec<&str> = entries.collect();
        known.sort_unstable();
        known.dedup();
        let mut faults: Vec<String> = known
            .iter()
            .filter(|entry| !self.layers.contains_key(**entry))
            .map(|entry| format!("{entry} is in no layer"))
            .collect();
        let mut gone: Vec<_> = self.layers.keys().filter(|name| !known.contains(&name.as_str())).collect();
        gone.sort();
        faults
            .extend(gone.iter().map(|name| format!("{name} is in the layers, but not in {}", self.sources)));
        for arrow in arrows {
            let Some(([], from, to)) = parting(&arrow.from, &arrow.to) else { continue };
            if let (Some(above), Some(below)) = (self.layers.get(from), self.layers.get(to))
                && above >= below
            {
                faults.push(format!("{} -> {}: {}", arrow.from.join("/"), arrow.to.join("/"), arrow.name));
            }
        }
        faults
    }
}
