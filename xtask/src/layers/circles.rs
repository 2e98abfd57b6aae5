//! Circles of files and of folders: in each folder, the files and folders that it holds may not know one another both
//! ways round.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::{algo::tarjan_scc, graphmap::DiGraphMap};

use super::tree::{Arrow, Place};

/// What a circle is made of, and in which folder.
pub struct Circle {
    pub among: Vec<String>,
    /// "from -> to: names"
    pub arrows: Vec<String>,
}

/// Where two files part: the folder that holds both, and what of it each is, or is in.
pub fn parting<'a>(from: &'a Place, to: &'a Place) -> Option<(&'a [String], &'a str, &'a str)> {
    let common = from.iter().zip(to).take_while(|(one, other)| one == other).count();
    Some((&from[..common], from.get(common)?, to.get(common)?))
}

pub fn find(arrows: &[Arrow]) -> Vec<Circle> {
    let mut folders: BTreeMap<&[String], DiGraphMap<&str, ()>> = BTreeMap::new();
    for arrow in arrows {
        if let Some((folder, from, to)) = parting(&arrow.from, &arrow.to) {
            folders.entry(folder).or_default().add_edge(from, to, ());
        }
    }
    let mut circles = Vec::new();
    for (folder, graph) in folders {
        for together in tarjan_scc(&graph).into_iter().filter(|together| together.len() > 1) {
            let mut made_of: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
            for arrow in arrows {
                if let Some((at, from, to)) = parting(&arrow.from, &arrow.to)
                    && at == folder
                    && together.contains(&from)
                    && together.contains(&to)
                {
                    made_of
                        .entry((arrow.from.join("/"), arrow.to.join("/")))
                        .or_default()
                        .insert(arrow.name.as_str());
                }
            }
            let arrows = made_of.into_iter().map(|((from, to), names)| {
                format!("{from} -> {to}: {}", names.into_iter().collect::<Vec<_>>().join(", "))
            });
            let mut among: Vec<_> =
                together.into_iter().map(|one| [folder, &[one.to_owned()]].concat().join("/")).collect();
            among.sort();
            circles.push(Circle { among, arrows: arrows.collect() });
        }
    }
    circles
}
