//! The table's stacks as a tree. A node has children from when somebody looks at them: most of a tree nobody does, and all of
//! it may be many times as large as the table.

use super::{
    shape::{Group, Shape},
    table::{Amounts, Table, add},
};
use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    mem,
};

/// How children are ordered: what has most first, or by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// A measure; `None` for names.
    pub by: Option<usize>,
    pub reverse: bool,
}

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    All,
    Process(u32),
    Module(Option<u32>),
    /// A name alone.
    Line(u32),
    /// All names of one function: the first of them.
    Function(u32),
}

/// A row, and the place in its calls at which the children of a node are.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub row: u32,
    pub at: u32,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub what: What,
    /// Itself for the root.
    pub parent: usize,
    /// 0 of the first level.
    pub depth: usize,
    pub sums: Amounts,
    pub is_open: bool,
    /// The name of all its members, if they have one.
    pub line: Option<u32>,
    /// There is something below it.
    pub has_calls: bool,
    members: Vec<Member>,
    /// In order; `None` until somebody looks.
    children: Option<Vec<usize>>,
}

impl Node {
    pub fn members(&self) -> &[Member] {
        &self.members
    }
}

/// Nodes in each other that are opened at once: more than a stack of a program has; a file may have longer ones.
const MOST_OPENED: usize = 1_000;

/// See the module. Nodes are known by their numbers, which stay.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    shape: Shape,
    order: Order,
}

impl Tree {
    pub const ROOT: usize = 0;

    /// What has nothing of `measure` is no part of it.
    pub fn new(table: &Table, shape: Shape, order: Order, measure: usize) -> Self {
        let rows = (0..).zip(&table.rows).filter(|(_, row)| row.amounts[measure] > 0);
        let members = rows.map(|(row, _)| Member { row, at: 0 }).collect();
        let root = Node {
            what: What::All,
            parent: Self::ROOT,
            depth: 0,
            sums: table.total(),
            is_open: true,
            line: None,
            has_calls: true,
            members,
            children: None,
        };
        let mut tree = Self { nodes: vec![root], shape, order };
        tree.children(table, Self::ROOT);
        tree
    }

    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// How many nodes there are by now.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes below one, in order.
    pub fn children(&mut self, table: &Table, node: usize) -> Vec<usize> {
        if let Some(children) = &self.nodes[node].children {
            return children.clone();
        }
        let first = self.nodes.len();
        let mut places: HashMap<What, usize> = HashMap::new();
        let members = mem::take(&mut self.nodes[node].members);
        for member in &members {
            if node == Self::ROOT && self.shape.group != Group::Calls {
                self.put_in_group(table, member.row, &mut places);
            } else if let Some(name) = self.shape.name(table, &table.rows[member.row as usize], member.at) {
                let what = What::Function(table.names[name as usize].same);
                self.put(table, node, what, Some(name), Member { at: member.at + 1, ..*member }, &mut places);
            }
        }
        self.nodes[node].members = members;
        let mut children: Vec<usize> = (first..self.nodes.len()).collect();
        children.sort_by(|one, other| self.compare(table, *one, *other));
        self.nodes[node].children = Some(children.clone());
        children
    }

    /// Puts a row into what it belongs to on the first level.
    fn put_in_group(&mut self, table: &Table, row: u32, places: &mut HashMap<What, usize>) {
        let of = &table.rows[row as usize];
        let innermost = table.frames(of, self.shape.raw).first().copied();
        let shape = self.shape;
        let mut put = |what, line, at| self.put(table, Self::ROOT, what, line, Member { row, at }, places);
        match shape.group {
            Group::Calls => {}
            Group::Process => put(What::Process(of.process), None, 0),
            Group::Module => {
                let module = innermost.and_then(|name| table.names[name as usize].module);
                put(What::Module(module), None, 0);
            }
            Group::Site => {
                let Some(name) = innermost else { return };
                // Its callers are below it, or the calls that lead to it.
                put(What::Line(name), Some(name), u32::from(shape.inverted));
            }
            Group::Function => {
                let mut seen: HashSet<u32> = HashSet::new();
                for at in 0..shape.depth(table, of) {
                    let Some(name) = shape.name(table, of, at) else { break };
                    let same = table.names[name as usize].same;
                    // One that calls itself has its blocks once.
                    if seen.insert(same) {
                        self.put(
                            table,
                            Self::ROOT,
                            What::Function(same),
                            Some(name),
                            Member { row, at: at + 1 },
                            places,
                        );
                    }
                }
            }
        }
    }

    fn put(
        &mut self,
        table: &Table,
        parent: usize,
        what: What,
        line: Option<u32>,
        member: Member,
        places: &mut HashMap<What, usize>,
    ) {
        let row = &table.rows[member.row as usize];
        let depth = if parent == Self::ROOT { 0 } else { self.nodes[parent].depth + 1 };
        let place = *places.entry(what).or_insert_with(|| {
            self.nodes.push(Node {
                what,
                parent,
                depth,
                sums: Amounts::default(),
                is_open: false,
                line,
                has_calls: false,
                members: Vec::new(),
                children: None,
            });
            self.nodes.len() - 1
        });
        let has_calls = member.at < self.shape.depth(table, row);
        let node = &mut self.nodes[place];
        add(&mut node.sums, &row.amounts);
        node.line = node.line.filter(|name| Some(*name) == line);
        node.has_calls |= has_calls;
        node.members.push(member);
    }

    fn compare(&self, table: &Table, one: usize, other: usize) -> Ordering {
        let (a, b) = (&self.nodes[one], &self.nodes[other]);
        let names = || self.text(table, one).cmp(&self.text(table, other));
        let order = match self.order.by {
            Some(measure) => b.sums[measure].cmp(&a.sums[measure]).then_with(names),
            None => names(),
        };
        if self.order.reverse { order.reverse() } else { order }
    }

    /// What a node is called.
    pub fn text(&self, table: &Table, node: usize) -> String {
        let node = &self.nodes[node];
        match node.what {
            What::All => "all".into(),
            What::Process(process) => table.processes[process as usize].clone(),
            What::Module(None) => "[none]".into(),
            What::Module(Some(module)) => table.modules[module as usize].clone(),
            What::Line(name) => table.names[name as usize].described(true),
            What::Function(same) => {
                let name = node.line.unwrap_or(same);
                table.names[name as usize].described(node.line.is_some())
            }
        }
    }

    /// Orders all that was looked at anew.
    pub fn sort(&mut self, table: &Table, order: Order) {
        self.order = order;
        for node in 0..self.nodes.len() {
            if let Some(mut children) = self.nodes[node].children.take() {
                children.sort_by(|one, other| self.compare(table, *one, *other));
                self.nodes[node].children = Some(children);
            }
        }
    }

    /// Opens a node, and what is below it as long as that is one node alone.
    pub fn open(&mut self, table: &Table, mut node: usize) {
        for _ in 0..MOST_OPENED {
            self.nodes[node].is_open = self.nodes[node].has_calls;
            let [only] = self.children(table, node)[..] else { break };
            node = only;
        }
    }

    /// Opens a node and all below it, while there are no more nodes than that; whether that was enough.
    pub fn open_all(&mut self, table: &Table, node: usize, most: usize) -> bool {
        let mut todo = vec![node];
        while let Some(node) = todo.pop() {
            if self.nodes.len() > most {
                return false;
            }
            self.nodes[node].is_open = self.nodes[node].has_calls;
            todo.extend(self.children(table, node).into_iter().rev());
        }
        true
    }

    pub fn close(&mut self, node: usize) {
        self.nodes[node].is_open = node == Self::ROOT;
    }

    /// Closes all of it.
    pub fn close_all(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.close(node));
    }

    /// Opens all that a node is below.
    pub fn show(&mut self, node: usize) {
        let mut at = node;
        while at != Self::ROOT {
            at = self.nodes[at].parent;
            self.nodes[at].is_open = true;
        }
    }

    /// The nodes that can be seen, from the top.
    pub fn lines(&self) -> Vec<usize> {
        let mut lines = Vec::new();
        let below = |node: usize| self.nodes[node].children.as_deref().unwrap_or_default().iter().rev();
        let mut todo: Vec<usize> = below(Self::ROOT).copied().collect();
        while let Some(node) = todo.pop() {
            lines.push(node);
            if self.nodes[node].is_open {
                todo.extend(below(node));
            }
        }
        lines
    }
}
