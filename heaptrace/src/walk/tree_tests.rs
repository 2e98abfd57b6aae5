//! The tree against sums that are made without one.

use super::{
    find::{next_found, previous_found},
    search::Search,
    shape::{Group, Shape},
    table::{Amounts, Table, add},
    tree::{Order, Tree, What},
};
use crate::fixtures::walked;
use proptest::prelude::*;
use std::collections::HashMap;

const LARGEST: Order = Order { by: Some(0), reverse: false };

fn shapes() -> impl Iterator<Item = Shape> {
    Group::ALL.into_iter().flat_map(|group| {
        [false, true].into_iter().flat_map(move |inverted| {
            [false, true].into_iter().map(move |raw| Shape { group, inverted, raw })
        })
    })
}

/// Every way from the first level to a node, with what the node has.
fn ways(tree: &mut Tree, table: &Table) -> HashMap<Vec<What>, Amounts> {
    assert!(tree.open_all(table, Tree::ROOT, 1 << 20));
    let mut ways = HashMap::new();
    for node in tree.lines() {
        let mut way = vec![tree.node(node).what];
        let mut at = node;
        while tree.node(at).depth > 0 {
            at = tree.node(at).parent;
            way.push(tree.node(at).what);
        }
        way.reverse();
        assert!(ways.insert(way, tree.node(node).sums).is_none(), "a node twice");
    }
    ways
}

/// The same by going through all rows.
fn expected(table: &Table, shape: Shape, measure: usize) -> HashMap<Vec<What>, Amounts> {
    let mut ways: HashMap<Vec<What>, Amounts> = HashMap::new();
    let function = |name: &u32| What::Function(table.names[*name as usize].same);
    for row in table.rows.iter().filter(|row| row.amounts[measure] > 0) {
        let inwards: Vec<u32> = table.frames(row, shape.raw).to_vec();
        let innermost = inwards[0];
        let calls: Vec<u32> =
            if shape.inverted { inwards.clone() } else { inwards.iter().rev().copied().collect() };
        let begin = match shape.group {
            Group::Calls => vec![(None, 0)],
            Group::Process => vec![(Some(What::Process(row.process)), 0)],
            Group::Module => vec![(Some(What::Module(table.names[innermost as usize].module)), 0)],
            Group::Site => vec![(Some(What::Line(innermost)), usize::from(shape.inverted))],
            Group::Function => {
                let mut first: Vec<(Option<What>, usize)> = Vec::new();
                for (at, name) in calls.iter().enumerate() {
                    if !first.iter().any(|(what, _)| *what == Some(function(name))) {
                        first.push((Some(function(name)), at + 1));
                    }
                }
                first
            }
        };
        for (group, from) in begin {
            let way: Vec<What> = group.into_iter().chain(calls[from..].iter().map(function)).collect();
            for length in 1..=way.len() {
                add(ways.entry(way[..length].to_vec()).or_default(), &row.amounts);
            }
        }
    }
    ways
}

fn tables() -> impl Strategy<Value = Table> {
    let path = proptest::collection::vec(0_u32..6, 1..7);
    let rows = proptest::collection::vec((0_u32..3, path, 0_u64..1000, 0_u32..7), 1..20);
    rows.prop_map(|rows| {
        let rows: Vec<_> =
            rows.iter().map(|(process, path, live, folded)| (*process, path, *live, *folded)).collect();
        let plain: Vec<(u32, &[u32], [u64; 4])> = rows
            .iter()
            .map(|(process, path, live, _)| (*process, path.as_slice(), [*live, 1, *live + 7, 2]))
            .collect();
        let mut table = walked::of(&plain);
        for (row, (_, path, _, folded)) in table.rows.iter_mut().zip(&rows) {
            row.folded = (*folded).min(path.len() as u32 - 1);
        }
        // Some functions have two names.
        for name in &mut table.names {
            name.same -= name.same % 2;
        }
        table
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_node_has_what_the_stacks_through_it_have(table in tables(), measure in 0_usize..4) {
        for shape in shapes() {
            let mut tree = Tree::new(&table, shape, LARGEST, measure);
            prop_assert_eq!(ways(&mut tree, &table), expected(&table, shape, measure), "{:?}", shape);
        }
    }

    #[test]
    fn a_search_goes_from_one_to_the_next_in_the_order_of_the_lines_and_around(table in tables(), wanted in 0_u32..7) {
        for shape in shapes() {
            let search = Search::new(&format!("f{wanted}"), &table, shape, 0);
            let mut all = Tree::new(&table, shape, LARGEST, 0);
            all.open_all(&table, Tree::ROOT, 1 << 20);
            let path = |tree: &Tree, mut node: usize| {
                let mut path = vec![tree.node(node).what];
                while tree.node(node).depth > 0 {
                    node = tree.node(node).parent;
                    path.push(tree.node(node).what);
                }
                path
            };
            let lines = all.lines();
            let found: Vec<_> = lines.iter().filter(|node| search.is_match(all.node(**node).what)).map(|node| path(&all, *node)).collect();
            let mut closed = Tree::new(&table, shape, LARGEST, 0);
            let mut walk = |step: fn(&mut Tree, &Table, &Search, usize) -> Option<usize>| {
                let mut at = Tree::ROOT;
                let mut seen = Vec::new();
                for _ in 0..found.len() {
                    at = step(&mut closed, &table, &search, at).expect("there are some");
                    seen.push(path(&closed, at));
                }
                let around = step(&mut closed, &table, &search, at).map(|node| path(&closed, node));
                (seen, around)
            };
            let (forwards, around) = walk(next_found);
            prop_assert_eq!(around.as_ref(), found.first(), "{:?}", shape);
            prop_assert_eq!(&forwards, &found, "{:?}", shape);
            let (mut backwards, around) = walk(previous_found);
            prop_assert_eq!(around.as_ref(), found.last(), "{:?}", shape);
            backwards.reverse();
            prop_assert_eq!(&backwards, &found, "{:?}", shape);
        }
    }
}

fn texts(tree: &Tree, table: &Table) -> Vec<String> {
    let line = |node: usize| format!("{}{}", "  ".repeat(tree.node(node).depth), tree.text(table, node));
    tree.lines().into_iter().map(line).collect()
}

#[test]
fn lines_of_source_are_shown_where_all_calls_are_on_one() {
    let table = walked::table();
    let mut tree = Tree::new(&table, Shape::default(), LARGEST, 2);
    tree.open_all(&table, Tree::ROOT, 100);
    assert_eq!(
        texts(&tree, &table),
        [
            "main main.c:10",
            "  parse parse.c:77",
            "    buffer_grow buffer.c",
            "  load load.c:5",
            "    buffer_grow buffer.c:31",
            "foo_init",
        ]
    );
    let mut tree = Tree::new(&table, Shape { group: Group::Site, inverted: true, raw: true }, LARGEST, 0);
    tree.open_all(&table, Tree::ROOT, 100);
    assert_eq!(
        texts(&tree, &table)[..4],
        ["xmalloc mem.c:3", "  buffer_grow buffer.c:31", "    parse parse.c:77", "      main main.c:10"]
    );
}

#[test]
fn order_is_by_a_measure_or_by_name_and_turns_around() {
    let table = walked::table();
    let allocated = Order { by: Some(2), reverse: false };
    let mut tree = Tree::new(&table, Shape { inverted: true, ..Shape::default() }, allocated, 2);
    assert_eq!(texts(&tree, &table), ["buffer_grow buffer.c", "load load.c:5", "foo_init"]);
    tree.sort(&table, Order { by: None, reverse: false });
    assert_eq!(texts(&tree, &table), ["buffer_grow buffer.c", "foo_init", "load load.c:5"]);
    tree.sort(&table, Order { by: Some(3), reverse: true });
    assert_eq!(texts(&tree, &table), ["foo_init", "load load.c:5", "buffer_grow buffer.c"]);
}

#[test]
fn what_has_nothing_of_the_measure_is_not_there() {
    let table = walked::table();
    let mut live = Tree::new(&table, Shape { inverted: true, ..Shape::default() }, LARGEST, 0);
    live.open_all(&table, Tree::ROOT, 100);
    assert!(!texts(&live, &table).contains(&"load load.c:5".to_owned()), "it is only there as a caller");
    assert!(texts(&live, &table).contains(&"  load load.c:5".to_owned()));
}

#[test]
fn more_nodes_than_wanted_are_not_opened() {
    let table = walked::table();
    let mut tree = Tree::new(&table, Shape::default(), LARGEST, 2);
    assert!(!tree.open_all(&table, Tree::ROOT, 3) && tree.count() < 8);
}
