//! Call trees, and perf's way of drawing them.

use super::labels::{LabelId, Labels, Place};
use crate::model::StackId;
use crate::units::percent;
use std::io::{self, Write};
use std::ops::Range;

/// Branches below this share of their row are summed up in one line (perf leaves out as much by default).
const MIN_SHARE: f64 = 0.005;

/// A stack of a tree.
#[derive(Clone, Copy, Debug)]
struct Member {
    stack: Option<StackId>,
    bytes: u64,
    /// The first label below the node that it was last counted to.
    at: Place,
}

/// A tree of labels, innermost function at the root, callers below. It has no nodes but those that are being drawn: in
/// the order of their labels, the stacks of a node are one behind the other.
#[derive(Default)]
pub(super) struct Tree {
    members: Vec<Member>,
}

/// What bytes are held against.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// What percentages are of.
    pub total: u64,
    /// Smaller branches are summed up.
    pub least: u64,
}

impl Tree {
    /// Adds a stack.
    pub fn add(&mut self, stack: Option<StackId>, bytes: u64) {
        self.members.push(Member { stack, bytes, at: Place::default() });
    }

    /// The node of all stacks, once none is added any more.
    pub fn root(&mut self, labels: &Labels<'_>) -> Node {
        self.members.iter_mut().for_each(|member| member.at = labels.first_shown(member.stack));
        self.members.sort_by(|one, other| match one.stack == other.stack {
            true => std::cmp::Ordering::Equal,
            false => labels.walk_from(one.stack, one.at).cmp(labels.walk_from(other.stack, other.at)),
        });
        let members = 0..self.members.len();
        Node { bytes: self.bytes(members.clone()), members }
    }

    /// Draws it as the tree of the row `title`.
    pub fn draw(
        mut self,
        title: &str,
        labels: &Labels<'_>,
        Scale { total, least }: Scale,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        const MARGIN: &str = "            ";
        // The root stands for the row, which may hold several lines of one function.
        let mut root = self.root(labels);
        let least = least.max((root.bytes as f64 * MIN_SHARE) as u64);
        writeln!(out, "{MARGIN}|")?;
        let mut children = self.children(&root, labels);
        if children.len() == 1
            && let Some((label, only)) = children.pop()
        {
            writeln!(out, "{MARGIN}---{}", labels.describe(label))?;
            children = self.children(&only, labels);
            root = only;
        } else {
            writeln!(out, "{MARGIN}---{title}")?;
        }
        let mut drawing = Drawing { tree: self, labels, least, todo: Vec::new() };
        // Not recursive: how deep it goes is up to the file. Branches wait with the length of their prefix only, as
        // they are drawn in an order in which each prefix begins with those of the branches that wait.
        let mut prefix = format!("{MARGIN}   ");
        drawing.callers(root, children, &prefix, out)?;
        while let Some(Waiting { prefix: length, last, branch: Branch { bytes, what } }) = drawing.todo.pop()
        {
            prefix.truncate(length);
            let lead = format!("{}{:.2}%--", if last { " --" } else { "|--" }, percent(bytes, total));
            writeln!(out, "{prefix}|")?;
            match what {
                What::Note(text) => writeln!(out, "{prefix}{lead}{text}")?,
                What::Callers(label, node) => {
                    writeln!(out, "{prefix}{lead}{}", labels.describe(label))?;
                    prefix.push(if last { ' ' } else { '|' });
                    prefix.extend(std::iter::repeat_n(' ', lead.len() - 1));
                    let children = drawing.tree.children(&node, labels);
                    drawing.callers(node, children, &prefix, out)?;
                }
            }
        }
        writeln!(out)
    }

    fn bytes(&self, members: Range<usize>) -> u64 {
        self.members[members].iter().fold(0, |sum: u64, member| sum.saturating_add(member.bytes))
    }

    /// The nodes below one, and their labels; moves its members on to them.
    pub fn children(&mut self, node: &Node, labels: &Labels<'_>) -> Vec<(LabelId, Node)> {
        let mut children: Vec<(LabelId, Node)> = Vec::new();
        for index in node.members.clone() {
            let member = &mut self.members[index];
            let Some(label) = labels.next(member.stack, &mut member.at) else { continue };
            match children.last_mut() {
                Some((last, child)) if *last == label => {
                    child.bytes = child.bytes.saturating_add(member.bytes);
                    child.members.end = index + 1;
                }
                _ => children.push((label, Node { bytes: member.bytes, members: index..index + 1 })),
            }
        }
        children
    }
}

/// The members whose stacks begin alike.
pub(super) struct Node {
    pub bytes: u64,
    members: Range<usize>,
}

struct Branch {
    bytes: u64,
    what: What,
}

enum What {
    Callers(LabelId, Node),
    /// Said in place of callers.
    Note(String),
}

/// A branch that is not drawn yet.
struct Waiting {
    /// Length of what its lines begin with.
    prefix: usize,
    /// Of those at its fork.
    last: bool,
    branch: Branch,
}

struct Drawing<'a, 'l> {
    tree: Tree,
    labels: &'a Labels<'l>,
    least: u64,
    todo: Vec<Waiting>,
}

impl Drawing<'_, '_> {
    /// Prints callers below each other while there is only one, and leaves the branches where there are more to do.
    fn callers(
        &mut self,
        mut node: Node,
        mut children: Vec<(LabelId, Node)>,
        prefix: &str,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        while let [(label, child)] = &children[..]
            && child.bytes == node.bytes
        {
            writeln!(out, "{prefix}{}", self.labels.describe(*label))?;
            node = Node { bytes: child.bytes, members: child.members.clone() };
            children = self.tree.children(&node, self.labels);
        }
        self.fork(&node, children, prefix.len());
        Ok(())
    }

    /// Queues the branches below `node`, largest first.
    fn fork(&mut self, node: &Node, mut children: Vec<(LabelId, Node)>, prefix: usize) {
        if children.is_empty() {
            return;
        }
        children.sort_by(|(a_label, a), (b_label, b)| {
            let name = |id: &LabelId| self.labels.describe(*id);
            b.bytes.cmp(&a.bytes).then_with(|| name(a_label).cmp(&name(b_label)))
        });
        let all = children.iter().map(|(_, child)| child.bytes);
        let ends_here = all.fold(node.bytes, u64::saturating_sub);
        let shown = children.partition_point(|(_, child)| child.bytes >= self.least.max(1));
        // One small branch is as short as the line that would stand for it.
        let shown = if children.len() - shown == 1 { children.len() } else { shown };
        let hidden = children.split_off(shown);
        let mut branches: Vec<Branch> = children
            .into_iter()
            .map(|(label, child)| Branch { bytes: child.bytes, what: What::Callers(label, child) })
            .collect();
        if !hidden.is_empty() {
            let small = hidden.iter().map(|(_, child)| child.bytes).fold(0, u64::saturating_add);
            let text = format!("[{} smaller branches]", hidden.len());
            branches.push(Branch { bytes: small, what: What::Note(text) });
        }
        if ends_here > 0 {
            branches.push(Branch { bytes: ends_here, what: What::Note("[no caller]".into()) });
        }
        let count = branches.len();
        let waiting = branches.into_iter().enumerate();
        let waiting = waiting.map(|(index, branch)| Waiting { prefix, last: index + 1 == count, branch });
        self.todo.extend(waiting.rev());
    }
}
