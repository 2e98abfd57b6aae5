//! massif's format: live bytes over time, and who held them in the end and, if it was not then, at the peak.

use super::Options;
use super::export::{Content, Export, Past, Untold};
use super::labels::{LabelId, Labels};
use super::remarks::{command, of_peak, remarks, title};
use super::stacks::{Measure, Stacks};
use super::tree::{Node, Tree};
use crate::model::{self, Amount, Profile};
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "massif",
    help: "Live bytes over time with heap trees, for ms_print and massif-visualizer.",
    files: &["massif.out*", "*.massif"],
    content: Content::Stacks,
    is_binary: false,
    past: Past::Peak,
    tells_losses: true,
    render,
};

/// Branches of a tree below this share of it are summed up, in hundredths: as massif has it.
const THRESHOLD: u64 = 1;

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let mut end = Stacks::of_main(profile, options);
    let measure = end.measures[end.main];
    let peak = profile.history.as_ref().and_then(|history| history.peak.as_ref());
    let peak = peak.filter(|_| measure == Measure::Live);
    let mut moments = moments(&end);
    end.hide_below(options.min_bytes);
    head(&end, out)?;

    let trees = Trees::new(profile, measure);
    let last = moments.pop();
    for (number, Moment { at_ns, bytes }) in moments.iter().enumerate() {
        match peak.filter(|peak| peak.at_ns == *at_ns) {
            Some(peak) => {
                let mut then = Stacks::at_peak(profile, options, peak);
                then.hide_below(options.min_bytes);
                snapshot(number, *at_ns, *bytes, "peak", out)?;
                trees.draw(&then, out)?;
            }
            None => snapshot(number, *at_ns, *bytes, "empty", out)?,
        }
    }
    if let Some(Moment { at_ns, bytes }) = last {
        snapshot(moments.len(), at_ns, bytes, if peak.is_none() { "peak" } else { "detailed" }, out)?;
        trees.draw(&end, out)?;
    }
    Ok(None)
}

/// How much there was at a moment.
struct Moment {
    at_ns: u64,
    bytes: u64,
}

/// The moments at which it is known how much there was, at least the start, when there was nothing, and the end.
fn moments(end: &Stacks<'_>) -> Vec<Moment> {
    let of: Option<fn(&model::Moment) -> Amount> = match end.measures[end.main] {
        Measure::Live => Some(|moment| moment.live),
        Measure::Allocated => Some(|moment| moment.allocated),
        Measure::Mapped | Measure::Touched => None,
    };
    let history = of.zip(end.profile.history.as_ref());
    let mut moments: Vec<Moment> = match history {
        Some((of, history)) => history
            .moments
            .iter()
            .map(|moment| Moment { at_ns: moment.at_ns, bytes: of(moment).bytes })
            .collect(),
        None => vec![Moment { at_ns: 0, bytes: 0 }, Moment { at_ns: end.profile.duration_ns, bytes: 0 }],
    };
    // That of the tree, whatever was added to the profile since.
    if let Some(last) = moments.last_mut() {
        last.bytes = end.total()[end.main].bytes;
    }
    moments
}

fn head(stacks: &Stacks<'_>, out: &mut dyn Write) -> io::Result<()> {
    let profile = stacks.profile;
    let measure = stacks.measures[stacks.main];
    let mut lines = remarks(stacks);
    // Its viewers call all of it the heap.
    let freed = if measure == Measure::Allocated { ", freed since or not" } else { "" };
    lines.insert(0, title(profile.mode, measure, true) + freed);
    lines.extend(of_peak(stacks));
    // Its readers take one line.
    writeln!(out, "desc: {}", lines.join("; "))?;
    writeln!(out, "cmd: {}\ntime_unit: ms", command(stacks))
}

fn snapshot(number: usize, at_ns: u64, bytes: u64, tree: &str, out: &mut dyn Write) -> io::Result<()> {
    let ms = at_ns / 1_000_000;
    writeln!(out, "#-----------\nsnapshot={number}\n#-----------\ntime={ms}\nmem_heap_B={bytes}")?;
    writeln!(out, "mem_heap_extra_B=0\nmem_stacks_B=0\nheap_tree={tree}")
}

/// Levels of a tree: each line begins with as many blanks. Stacks have 127 frames, and some functions inlined into them.
const LEVELS: usize = 512;

/// What trees are drawn with.
struct Trees<'a> {
    labels: Labels<'a>,
    /// Of each label the lowest address of a call that has it: massif's trees have addresses.
    addresses: Vec<u64>,
    title: &'static str,
}

/// A node that is not drawn yet.
enum Waiting {
    Node(LabelId, Node),
    /// Said in place of nodes.
    Note(u64, String),
}

impl<'a> Trees<'a> {
    fn new(profile: &'a Profile, measure: Measure) -> Self {
        let labels = Labels::new(profile);
        let mut addresses = vec![u64::MAX; labels.len()];
        for frame in &profile.frames {
            for label in labels.of_location(frame.location) {
                let lowest = &mut addresses[*label as usize];
                *lowest = (*lowest).min(frame.address.saturating_sub(1));
            }
        }
        let title = match measure {
            Measure::Live | Measure::Allocated => {
                "(heap allocation functions) malloc/new/new[], --alloc-fns, etc."
            }
            Measure::Mapped => "(page allocation syscalls) mmap/mremap/brk, --alloc-fns, etc.",
            Measure::Touched => "(page faults)",
        };
        Self { labels, addresses, title }
    }

    /// 0 for what is no code.
    fn address(&self, label: LabelId) -> u64 {
        self.addresses.get(label as usize).copied().filter(|address| *address != u64::MAX).unwrap_or_default()
    }

    fn draw(&self, stacks: &Stacks<'_>, out: &mut dyn Write) -> io::Result<()> {
        let mut tree = Tree::default();
        for row in stacks.rows.iter().filter(|row| stacks.bytes(row) > 0) {
            tree.add(row.stack, stacks.bytes(row));
        }
        let root = tree.root(&self.labels);
        let (hidden, hidden_bytes) = (stacks.hidden.stacks, stacks.hidden.amounts[stacks.main].bytes);
        let all = root.bytes.saturating_add(hidden_bytes);
        let least = all.saturating_mul(THRESHOLD).div_ceil(100).max(1);
        let mut children = self.children(&mut tree, &root, least);
        if hidden_bytes > 0 {
            children.push(Waiting::Note(hidden_bytes, in_places(hidden, "below --min-bytes")));
        }
        writeln!(out, "n{}: {all} {}", children.len(), self.title)?;
        // Not recursive: how deep it goes is up to the file.
        let mut todo: Vec<(usize, Waiting)> = children.into_iter().rev().map(|child| (1, child)).collect();
        while let Some((depth, waiting)) = todo.pop() {
            match waiting {
                Waiting::Note(bytes, text) => writeln!(out, "{:depth$}n0: {bytes} {text}", "")?,
                Waiting::Node(label, node) => {
                    let deeper = depth < LEVELS;
                    let children = if deeper { self.children(&mut tree, &node, least) } else { Vec::new() };
                    let name = self.labels.at_address(label, self.address(label));
                    writeln!(out, "{:depth$}n{}: {} {name}", "", children.len(), node.bytes)?;
                    todo.extend(children.into_iter().rev().map(|child| (depth + 1, child)));
                }
            }
        }
        Ok(())
    }

    /// What is below a node, the largest first, and what is small in one. They come to what the node has.
    fn children(&self, tree: &mut Tree, node: &Node, least: u64) -> Vec<Waiting> {
        let mut children = tree.children(node, &self.labels);
        if children.is_empty() {
            return Vec::new();
        }
        children.sort_by(|(a_label, a), (b_label, b)| {
            let label = |id: &LabelId| self.labels.get(*id);
            b.bytes.cmp(&a.bytes).then_with(|| label(a_label).cmp(label(b_label)))
        });
        let below = children.iter().fold(0, |sum: u64, (_, child)| sum.saturating_add(child.bytes));
        let ends_here = node.bytes.saturating_sub(below);
        let small = children.split_off(children.partition_point(|(_, child)| child.bytes >= least));
        let mut waiting: Vec<_> =
            children.into_iter().map(|(label, child)| Waiting::Node(label, child)).collect();
        let small_bytes = small.iter().fold(0, |sum: u64, (_, child)| sum.saturating_add(child.bytes));
        if small_bytes > 0 {
            let why = format!("all below massif's threshold ({THRESHOLD}.00%)");
            waiting.push(Waiting::Note(small_bytes, in_places(small.len() as u64, &why)));
        }
        if ends_here > 0 {
            waiting.push(Waiting::Note(ends_here, "0x0: [no caller] (in ???)".into()));
        }
        waiting
    }
}

/// As massif says it.
fn in_places(count: u64, why: &str) -> String {
    let places = if count == 1 { "place" } else { "places" };
    format!("in {count} {places}, {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::{empty, full, sampled};
    use crate::model::{History, Peak};
    use crate::report::View;
    use insta::assert_snapshot;

    fn rendered(profile: &Profile, options: &Options) -> String {
        let mut out = Vec::new();
        render(profile, options, &mut out).expect("a vector");
        String::from_utf8(out).expect("UTF-8")
    }

    /// Without what other formats have, too.
    fn body(text: &str) -> &str {
        &text[text.find("cmd:").expect("a command")..]
    }

    fn with_history() -> Profile {
        let mut profile = full();
        let mut peak = Peak::of(&profile);
        peak.at_ns = 2_500_000_000;
        peak.sites[0] = Amount { bytes: 2_000_001, count: 20 };
        peak.processes[0].bytes += 1_200_001;
        let at = |at_ns, bytes| model::Moment {
            at_ns,
            live: Amount { bytes, count: 1 },
            allocated: Amount { bytes: at_ns / 1000, count: 1 },
            ..model::Moment::default()
        };
        let all: u64 = peak.processes.iter().map(|process| process.bytes).sum();
        let moments = vec![at(0, 0), at(1_000_000_000, 77), at(2_500_000_000, all), at(5_000_000_000, 1)];
        profile.history = Some(History { saved: 3, moments, peak: Some(peak), ..History::default() });
        profile
    }

    #[test]
    fn snapshots_over_time_with_trees_at_peak_and_end() {
        assert_snapshot!(body(&rendered(&with_history(), &Options::default())));
    }

    #[test]
    fn what_it_is_of_is_said_first_and_how_the_peak_is_known() {
        let first = |profile: &Profile, view| {
            let text = rendered(profile, &Options { view, ..Options::default() });
            text.lines().next().expect("a description").to_owned()
        };
        let live = first(&with_history(), View::Live);
        assert!(live.starts_with("desc: live bytes; heaptrace "), "{live}");
        assert!(
            live.contains("; the peak is the highest of 3 moments at which the recording was saved; "),
            "{live}"
        );
        let allocated = first(&with_history(), View::Alloc);
        assert!(allocated.starts_with("desc: allocated bytes, freed since or not; "), "{allocated}");
        let mut profile = sampled(true);
        profile.history = with_history().history;
        profile.processes[0].peak_live_bytes = 1_000_003;
        let sampled = first(&profile, View::Live);
        assert!(sampled.contains(" had at most about 1,000,003 bytes"), "{sampled}");
    }

    #[test]
    fn without_a_history_the_end_is_the_peak() {
        let text = rendered(&full(), &Options { pid: Some(42), ..Options::default() });
        assert!(text.contains("\ncmd: /usr/bin/app\ntime_unit: ms\n"), "{text}");
        assert!(
            text.contains("time=5000\nmem_heap_B=947815\n") && text.contains("heap_tree=peak\nn4: 947815 "),
            "{text}"
        );
        assert_eq!(text.matches("heap_tree=").count(), 2);
    }

    #[test]
    fn other_views_have_what_is_known_of_their_time() {
        let of = |view| rendered(&with_history(), &Options { view, ..Options::default() });
        let allocated = of(View::Alloc);
        assert!(allocated.contains("time=2500\nmem_heap_B=2500000\n"), "{allocated}");
        assert_eq!(
            (allocated.matches("heap_tree=peak").count(), allocated.matches("heap_tree=detailed").count()),
            (1, 0)
        );
        let growth = of(View::Growth);
        assert!(growth.contains("n2: 1216512 (page allocation syscalls)"), "{growth}");
        assert_eq!(growth.matches("snapshot=").count(), 2);
    }

    #[test]
    fn small_stacks_are_told_and_nothing_is_a_tree_too() {
        let text = rendered(&full(), &Options { min_bytes: 60_000, ..Options::default() });
        assert!(text.contains("n3: 951161 ") && text.contains(" in 6 places, below --min-bytes"), "{text}");
        assert!(!text.contains("massif's threshold"), "{text}");
        assert!(rendered(&empty(), &Options::default()).contains("\nn0: 0 (heap allocation functions)"));
    }
}
