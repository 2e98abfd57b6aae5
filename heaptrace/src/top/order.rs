//! In which order rows are shown: by a column, or children below their parents.

use super::{columns::Column, filter::Filter, row::Row};
use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

/// How a table is arranged.
#[derive(Clone, Debug)]
pub struct Arrangement<'a> {
    pub sort: Column,
    pub reverse: bool,
    pub filter: &'a Filter,
    pub tree: bool,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the row.
    pub row: usize,
    /// What is drawn before its command: branches of the tree.
    pub branch: String,
    /// Here only because something below it was looked for.
    pub context: bool,
}

/// The lines, from the top.
pub fn arrange(rows: &[Row], how: &Arrangement<'_>) -> Vec<Place> {
    let mut found: Vec<usize> = (0..rows.len()).filter(|index| how.filter.accepts(&rows[*index])).collect();
    if how.tree {
        return tree(rows, how, &found);
    }
    found.sort_by(|a, b| compare(&rows[*a], &rows[*b], how));
    found.into_iter().map(|row| Place { row, branch: String::new(), context: false }).collect()
}

/// Rows of the same value stay where they are from refresh to refresh: the largest first, then by PID.
fn compare(a: &Row, b: &Row, how: &Arrangement<'_>) -> Ordering {
    use super::columns::Value::Missing;
    let (left, right) = (how.sort.value(a), how.sort.value(b));
    let order = left.compare(&right);
    // What is missing is last either way; PIDs count upwards, as everybody expects.
    let turned = how.reverse != (how.sort == Column::Pid);
    let order = if turned && left != Missing && right != Missing { order.reverse() } else { order };
    order.then(b.res.cmp(&a.res)).then(a.identity.pid.cmp(&b.identity.pid))
}

fn tree(rows: &[Row], how: &Arrangement<'_>, found: &[usize]) -> Vec<Place> {
    let by_pid: HashMap<u32, usize> =
        rows.iter().enumerate().map(|(index, row)| (row.identity.pid, index)).collect();
    let parent = |index: usize| by_pid.get(&rows[index].parent).copied().filter(|parent| *parent != index);
    // With the parents of what was found, so that it is seen where it belongs.
    let matches: HashSet<usize> = found.iter().copied().collect();
    let mut shown = matches.clone();
    for index in found {
        let mut at = *index;
        while let Some(above) = parent(at) {
            if !shown.insert(above) {
                break;
            }
            at = above;
        }
    }
    let mut children: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for index in &shown {
        children.entry(parent(*index).filter(|parent| shown.contains(parent))).or_default().push(*index);
    }
    for list in children.values_mut() {
        list.sort_by(|a, b| compare(&rows[*a], &rows[*b], how));
    }
    let mut places = Vec::with_capacity(shown.len());
    let mut placed = HashSet::new();
    // What is to be placed, the next one last, with what is drawn before it and before its children.
    let mut waiting: Vec<(usize, String, String)> = Vec::new();
    let roots = children.get(&None).cloned().unwrap_or_default();
    waiting.extend(roots.into_iter().rev().map(|root| (root, String::new(), String::new())));
    // A process that changed its parent while it was read could be its own ancestor: such a ring has no root.
    let mut rest: Vec<usize> = shown.iter().copied().collect();
    rest.sort_by_key(|index| std::cmp::Reverse(rows[*index].identity.pid));
    loop {
        let Some((row, branch, below)) = waiting.pop() else {
            match rest.pop() {
                Some(index) if placed.contains(&index) => continue,
                Some(index) => {
                    waiting.push((index, String::new(), String::new()));
                    continue;
                }
                None => break,
            }
        };
        if !placed.insert(row) {
            continue;
        }
        places.push(Place { row, branch, context: !matches.contains(&row) });
        let list = children.get(&Some(row)).map_or(&[][..], Vec::as_slice);
        for (number, child) in list.iter().enumerate().rev() {
            let last = number + 1 == list.len();
            let branch = format!("{below}{}", if last { "└─ " } else { "├─ " });
            waiting.push((*child, branch, format!("{below}{}", if last { "   " } else { "│  " })));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::top_rows;
    use proptest::prelude::*;

    fn pids(sort: Column, reverse: bool, filter: &str, tree: bool) -> Vec<(String, u32)> {
        let rows = top_rows::rows();
        let filter = Filter::parse(filter).expect("a filter");
        let places = arrange(&rows, &Arrangement { sort, reverse, filter: &filter, tree });
        places.into_iter().map(|place| (place.branch, rows[place.row].identity.pid)).collect()
    }

    fn flat(sort: Column, reverse: bool) -> Vec<u32> {
        pids(sort, reverse, "", false).into_iter().map(|(_, pid)| pid).collect()
    }

    #[test]
    fn numbers_begin_with_the_largest_and_what_is_missing_is_last() {
        assert_eq!(flat(Column::Res, false), [1200, 900, 812, 901, 1]);
        assert_eq!(flat(Column::Res, true), [1, 901, 812, 900, 1200]);
        assert_eq!(flat(Column::Live, false)[0], 812);
        assert_eq!(flat(Column::Live, true)[0], 812);
        assert_eq!(flat(Column::Pid, false), [1, 812, 900, 901, 1200]);
        assert_eq!(flat(Column::User, false)[0], 900, "texts begin with A");
    }

    #[test]
    fn children_are_below_their_parents() {
        let tree = pids(Column::Res, false, "", true);
        let expected: Vec<(String, u32)> =
            [("", 1), ("├─ ", 1200), ("├─ ", 900), ("│  └─ ", 901), ("└─ ", 812)]
                .map(|(branch, pid)| (branch.to_owned(), pid))
                .into();
        assert_eq!(tree, expected);
    }

    #[test]
    fn a_filtered_tree_has_the_parents_of_what_was_found() {
        let tree = pids(Column::Res, false, "checkpointer", true);
        assert_eq!(tree.into_iter().map(|(_, pid)| pid).collect::<Vec<_>>(), [1, 900, 901]);
    }

    proptest! {
        /// Whoever is whose parent, rings included, everybody has one line.
        #[test]
        fn every_row_is_shown_once(parents in proptest::collection::vec(0_u32..12, 0..12), reverse: bool) {
            let template = top_rows::rows().remove(0);
            let rows: Vec<Row> = parents.iter().enumerate().map(|(pid, parent)| {
                let mut row = template.clone();
                (row.identity.pid, row.parent) = (pid as u32, *parent);
                row
            }).collect();
            let filter = Filter::default();
            for tree in [false, true] {
                let how = Arrangement { sort: Column::Growth, reverse, filter: &filter, tree };
                let mut shown: Vec<usize> = arrange(&rows, &how).into_iter().map(|place| place.row).collect();
                shown.sort_unstable();
                prop_assert_eq!(shown, (0..rows.len()).collect::<Vec<_>>());
            }
        }

        #[test]
        fn sorted_means_sorted(sizes in proptest::collection::vec(any::<u64>(), 0..40)) {
            let template = top_rows::rows().remove(0);
            let rows: Vec<Row> = sizes.iter().map(|size| Row { res: *size, ..template.clone() }).collect();
            let how =
                Arrangement { sort: Column::Res, reverse: false, filter: &Filter::default(), tree: false };
            let places = arrange(&rows, &how);
            prop_assert!(places.windows(2).all(|pair| rows[pair[0].row].res >= rows[pair[1].row].res));
        }
    }
}
