//! Call trees: one arena of nodes for all rows, and perf's way of drawing them.

use super::labels::{LabelId, Labels};
use super::number::percent;
use std::collections::HashMap;
use std::io::{self, Write};

/// Branches below this share of their row are summed up in one line (perf leaves out as much by default).
const MIN_SHARE: f64 = 0.005;

struct Node {
    label: LabelId,
    bytes: u64,
    children: Vec<u32>,
}

/// Trees of labels, innermost function at the root, callers below.
#[derive(Default)]
pub(super) struct Forest {
    nodes: Vec<Node>,
    index: HashMap<(u32, LabelId), u32>,
}

/// A tree of a [`Forest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root(u32);

/// What bytes are held against.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// What percentages are of.
    pub total: u64,
    /// Smaller branches are summed up.
    pub least: u64,
}

impl Forest {
    /// Adds a stack to `tree`, or to a new tree; returns the tree.
    pub fn add(&mut self, tree: Option<Root>, stack: &[LabelId], bytes: u64) -> Root {
        // The root stands for the row, which may hold several lines of one function; its own label is not used.
        let Root(root) = tree.unwrap_or_else(|| Root(self.push(0)));
        let mut at = root;
        self.grow(at, bytes);
        for &label in stack {
            at = match self.index.get(&(at, label)) {
                Some(&child) => child,
                None => {
                    let child = self.push(label);
                    self.index.insert((at, label), child);
                    self.nodes[at as usize].children.push(child);
                    child
                }
            };
            self.grow(at, bytes);
        }
        Root(root)
    }

    fn push(&mut self, label: LabelId) -> u32 {
        // Four billion nodes of 40 bytes fit no machine this reads files on.
        let id = self.nodes.len() as u32;
        self.nodes.push(Node { label, bytes: 0, children: Vec::new() });
        id
    }

    fn grow(&mut self, node: u32, bytes: u64) {
        let node = &mut self.nodes[node as usize];
        node.bytes = node.bytes.saturating_add(bytes);
    }

    /// Draws the tree of the row `title`.
    pub fn draw(
        &self,
        Root(mut root): Root,
        title: &str,
        labels: &Labels<'_>,
        Scale { total, least }: Scale,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        const MARGIN: &str = "            ";
        let least = least.max((self.nodes[root as usize].bytes as f64 * MIN_SHARE) as u64);
        writeln!(out, "{MARGIN}|")?;
        if let [only] = self.nodes[root as usize].children[..] {
            root = only;
            writeln!(out, "{MARGIN}---{}", labels.get(self.nodes[only as usize].label).describe())?;
        } else {
            writeln!(out, "{MARGIN}---{title}")?;
        }
        // Not recursive: how deep it goes is up to the file.
        let mut todo = vec![Task::Callers { of: root, prefix: format!("{MARGIN}   ") }];
        while let Some(task) = todo.pop() {
            match task {
                Task::Line(line) => writeln!(out, "{line}")?,
                Task::Callers { of, prefix } => {
                    let end = self.chain(of, &prefix, labels, out)?;
                    self.fork(end, &prefix, least, labels, total, &mut todo);
                }
            }
        }
        writeln!(out)
    }

    /// Prints callers below each other while there is only one; returns where the chain ends.
    fn chain(&self, mut at: u32, prefix: &str, labels: &Labels<'_>, out: &mut dyn Write) -> io::Result<u32> {
        while let [child] = self.nodes[at as usize].children[..]
            && self.nodes[child as usize].bytes == self.nodes[at as usize].bytes
        {
            writeln!(out, "{prefix}{}", labels.get(self.nodes[child as usize].label).describe())?;
            at = child;
        }
        Ok(at)
    }

    /// Queues the branches below `at`, largest first.
    fn fork(&self, at: u32, prefix: &str, least: u64, labels: &Labels<'_>, total: u64, todo: &mut Vec<Task>) {
        let node = &self.nodes[at as usize];
        if node.children.is_empty() {
            return;
        }
        let bytes = |child: &u32| self.nodes[*child as usize].bytes;
        let mut children = node.children.clone();
        children.sort_by(|a, b| {
            let name = |id: &u32| labels.get(self.nodes[*id as usize].label).describe();
            bytes(b).cmp(&bytes(a)).then_with(|| name(a).cmp(&name(b)))
        });
        let shown = children.partition_point(|child| bytes(child) >= least.max(1));
        // One small branch is as short as the line that would stand for it.
        let shown = if children.len() - shown == 1 { children.len() } else { shown };
        let mut branches: Vec<Branch> = children[..shown]
            .iter()
            .map(|child| Branch { bytes: bytes(child), node: Some(*child), text: String::new() })
            .collect();
        let small = children[shown..].iter().map(bytes).fold(0, u64::saturating_add);
        if shown < children.len() {
            let text = format!("[{} smaller branches]", children.len() - shown);
            branches.push(Branch { bytes: small, node: None, text });
        }
        let ends_here = children.iter().map(bytes).fold(node.bytes, u64::saturating_sub);
        if ends_here > 0 {
            branches.push(Branch { bytes: ends_here, node: None, text: "[no caller]".into() });
        }
        let count = branches.len();
        let mut tasks = Vec::with_capacity(3 * count);
        for (index, branch) in branches.into_iter().enumerate() {
            let last = index + 1 == count;
            let lead = format!("{}{:.2}%--", if last { " --" } else { "|--" }, percent(branch.bytes, total));
            let below = format!("{prefix}{}{}", if last { ' ' } else { '|' }, " ".repeat(lead.len() - 1));
            tasks.push(Task::Line(format!("{prefix}|")));
            let text = match branch.node {
                Some(child) => labels.get(self.nodes[child as usize].label).describe(),
                None => branch.text,
            };
            tasks.push(Task::Line(format!("{prefix}{lead}{text}")));
            tasks.extend(branch.node.map(|of| Task::Callers { of, prefix: below }));
        }
        todo.extend(tasks.into_iter().rev());
    }
}

struct Branch {
    bytes: u64,
    node: Option<u32>,
    text: String,
}

enum Task {
    Line(String),
    Callers { of: u32, prefix: String },
}
