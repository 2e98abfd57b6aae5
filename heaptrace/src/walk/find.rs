//! Going from one thing that a search finds to the next, through a tree of which most was not looked at yet.

use super::{search::Search, table::Table, tree::Tree};

/// The first node behind `from`, from top to bottom, that a search finds, open or not; from the top again after the last.
pub fn next_found(tree: &mut Tree, table: &Table, search: &Search, from: usize) -> Option<usize> {
    if search.is_below(tree.node(from)) {
        let children = tree.children(table, from);
        return first_found(tree, table, search, &children);
    }
    let mut at = from;
    while at != Tree::ROOT {
        let parent = tree.node(at).parent;
        let siblings = tree.children(table, parent);
        let behind = siblings.iter().position(|node| *node == at).map_or(0, |place| place + 1);
        if let Some(found) = first_found(tree, table, search, &siblings[behind..]) {
            return Some(found);
        }
        at = parent;
    }
    let all = tree.children(table, Tree::ROOT);
    first_found(tree, table, search, &all)
}

/// The last one before `from`.
pub fn previous_found(tree: &mut Tree, table: &Table, search: &Search, from: usize) -> Option<usize> {
    let mut at = from;
    while at != Tree::ROOT {
        let parent = tree.node(at).parent;
        let siblings = tree.children(table, parent);
        let before = siblings.iter().position(|node| *node == at).unwrap_or(0);
        if let Some(found) = last_found(tree, table, search, &siblings[..before]) {
            return Some(found);
        }
        at = parent;
        if at != Tree::ROOT && search.is_match(tree.node(at).what) {
            return Some(at);
        }
    }
    let all = tree.children(table, Tree::ROOT);
    last_found(tree, table, search, &all)
}

fn first_found(tree: &mut Tree, table: &Table, search: &Search, nodes: &[usize]) -> Option<usize> {
    let mut nodes = nodes.to_vec();
    loop {
        let is_near = |node: &&usize| {
            let node = tree.node(**node);
            search.is_match(node.what) || search.is_below(node)
        };
        let node = *nodes.iter().find(is_near)?;
        if search.is_match(tree.node(node).what) {
            return Some(node);
        }
        nodes = tree.children(table, node);
    }
}

fn last_found(tree: &mut Tree, table: &Table, search: &Search, nodes: &[usize]) -> Option<usize> {
    let mut nodes = nodes.to_vec();
    let mut found = None;
    loop {
        let is_near = |node: &&usize| {
            let node = tree.node(**node);
            search.is_match(node.what) || search.is_below(node)
        };
        let Some(node) = nodes.iter().rev().find(is_near).copied() else { return found };
        if search.is_match(tree.node(node).what) {
            found = Some(node);
        }
        if !search.is_below(tree.node(node)) {
            return found;
        }
        nodes = tree.children(table, node);
    }
}
