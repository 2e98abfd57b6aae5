//! Chooses a function's sites: where results are seen by one minimum cut, and where arguments are kept for those that
//! lack them by a second one.

use super::Role;
use super::answer::{Cut, CutSite, Kind, NoCut, Request};
use super::backward::Backward;
use super::candidates::{Candidates, Crossing};
use super::forward::Forward;
use super::graph::Graph;
use super::image::Image;
use super::min_cut::{ENDLESS, Network};
use super::node::{Edge, End, Node, Way};
use super::own_code;
use super::places::is_whole_possible;
use heaptrace_common::function::Shape;
use heaptrace_common::probe::condition;
use iced_x86::{ConditionCode, FlowControl};
use std::collections::BTreeSet;
use std::ops::Range;

/// How often the search starts again without an edge that makes a jump two sites.
const MAX_ATTEMPTS: usize = 16;

/// A jump traps whichever way it goes: one whose other way does not count costs that way a trap.
const OTHER_WAY: u64 = 2;
/// For a failure, or a site that comes in addition, the other way may be the one that most calls go.
const COMMON_OTHER_WAY: u64 = 30;

/// What a call in one trap is worth more than one in two.
const DEMOTED: u64 = 120;
/// What it costs that a call's arguments are kept for nothing: it goes on in another function.
const PENDING: u64 = 60;

/// An edge, by its node and its number there.
type EdgeId = (usize, usize);

/// The cut of a function, or why it has none that is proven.
pub fn cut(image: &Image<'_>, request: &Request<'_>) -> Result<Cut, NoCut> {
    let graph = Graph::build(image, request.entry, request.probed)?;
    graph.parts.check()?;
    let forward = Forward::of(&graph)?;
    forward.check(&graph)?;
    let backward = Backward::of(&graph, &forward, request.shape == Shape::OutPointer)?;
    let mut search = Search {
        graph: &graph,
        candidates: Candidates::of(&graph, &forward, backward, request),
        forbidden: BTreeSet::new(),
        shape: request.shape,
    };
    let found = search.sites()?;
    Ok(describe(&graph, request, found))
}

/// Everything about a cut but its sites.
fn describe(graph: &Graph<'_, '_>, request: &Request<'_>, found: Found) -> Cut {
    let Found { sites, kind, why, keeps_passed, .. } = found;
    let own: Vec<_> =
        graph.parts.all.iter().filter(|part| part.group == 0).map(|part| part.range.clone()).collect();
    let to = |end| {
        graph.nodes.iter().filter(move |node| {
            node.live && node.successors.iter().any(|edge| graph.nodes[edge.to].end == Some(end))
        })
    };
    let passes_on = graph.nodes.iter().filter_map(|node| match node.end {
        Some(End::PassesOn(entry)) => Some(entry),
        _ => None,
    });
    let own_code = own_code::find(graph.image, &own, request.entry, request.probed);
    Cut {
        kind,
        begins_first: begins_first(graph, &sites, &own_code.ranges, request.probed),
        sites,
        unseen_exits: to(End::Unknown).count() as u32,
        passes_on: passes_on.collect(),
        keeps_passed,
        own_code: own_code.ranges,
        between: own_code.between,
        bytes: graph.bytes(),
        why,
        entry: None,
    }
}

/// Whether each call passes a site that keeps its arguments before it calls own code or a probed function.
fn begins_first(graph: &Graph<'_, '_>, sites: &[CutSite], own: &[Range<u64>], probed: &[u64]) -> bool {
    let begins = |at: u64| {
        let begin = |site: &&CutSite| site.role == Role::Begin && site.condition == condition::ALWAYS;
        sites.iter().filter(begin).any(|site| site.address == at)
    };
    let is_own = |to: u64| probed.contains(&to) || own.iter().any(|range| range.contains(&to));
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![0]);
    while let Some(index) = waiting.pop() {
        let node = &graph.nodes[index];
        if node.end.is_some() || begins(node.instruction.ip()) || !seen.insert(index) {
            continue;
        }
        let calls_own = match node.instruction.flow_control() {
            FlowControl::Call => is_own(graph.image.callee(node.instruction.near_branch_target())),
            FlowControl::IndirectCall => true,
            _ => false,
        };
        if calls_own {
            return false;
        }
        waiting.extend(node.successors.iter().map(|edge| edge.to));
    }
    true
}

struct Search<'a> {
    graph: &'a Graph<'a, 'a>,
    candidates: Candidates<'a>,
    forbidden: BTreeSet<EdgeId>,
    shape: Shape,
}

/// The instruction of a site, and which of its edges count.
struct Chosen {
    node: usize,
    ways: Vec<Way>,
    crossing: Crossing,
}

/// A choice of sites, and what it costs.
struct Found {
    cost: u64,
    sites: Vec<CutSite>,
    kind: Kind,
    why: Option<NoCut>,
    /// Edges where failures are seen that need no stash, but come behind one.
    drawn: Vec<EdgeId>,
    /// Arguments are kept wherever a call goes on in another function.
    keeps_passed: bool,
}

impl Search<'_> {
    fn sites(&mut self) -> Result<Found, NoCut> {
        let is_end = |end: Option<End>| matches!(end, Some(End::Return | End::Filling));
        if !self.graph.nodes.iter().any(|node| is_end(node.end)) {
            let passes_on = |node: &Node| matches!(node.end, Some(End::PassesOn(_)));
            if self.graph.nodes.iter().any(passes_on) {
                return Ok(Found {
                    cost: 0,
                    sites: Vec::new(),
                    kind: Kind::OneTrap,
                    why: None,
                    drawn: Vec::new(),
                    keeps_passed: false,
                });
            }
            return Err(NoCut::NoReturn);
        }
        let mut best = self.attempt()?;
        for _ in 0..MAX_ATTEMPTS {
            // A failure that is seen where all failures meet draws those that need no stash behind it, too.
            if best.drawn.is_empty() {
                break;
            }
            self.forbidden.extend(best.drawn.iter().copied());
            match self.attempt() {
                Ok(other) if other.cost < best.cost => best = other,
                _ => break,
            }
        }
        Ok(best)
    }

    fn attempt(&mut self) -> Result<Found, NoCut> {
        for _ in 0..MAX_ATTEMPTS {
            let (cost, far) = self.results()?;
            match self.crossed(&far) {
                Ok(chosen) => return self.with_stashes(cost, &far, &chosen),
                Err(edge) => {
                    self.forbidden.insert(edge);
                }
            }
        }
        Err(NoCut::NoSite)
    }

    fn is_live(&self, edge: &Edge) -> bool {
        self.graph.nodes[edge.to].live
    }

    /// Seeing the result on one edge.
    fn on(&self, index: usize, number: usize) -> Option<&Crossing> {
        self.candidates.result(index, number).filter(|_| !self.forbidden.contains(&(index, number)))
    }

    /// Seeing it on all.
    fn on_all(&self, index: usize) -> Option<Crossing> {
        let successors = &self.graph.nodes[index].successors;
        let ways = (0..successors.len()).filter(|number| self.is_live(&successors[*number]));
        let all: Option<Vec<&Crossing>> = ways.map(|number| self.on(index, number)).collect();
        let both = all?.into_iter().cloned().reduce(|one, other| one.with(&other))?;
        (!both.holders.is_empty()).then_some(both)
    }

    /// The far side of the cut at which results are seen: it holds every return, and nothing leads back out of it.
    /// Each node is two, before and behind its instruction.
    fn results(&self) -> Result<(u64, Sides), NoCut> {
        let nodes = &self.graph.nodes;
        let mut network = Network::new(2 * nodes.len() + 2);
        let (source, sink) = (2 * nodes.len(), 2 * nodes.len() + 1);
        network.add(source, 0, ENDLESS, 0);
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.live) {
            match node.end {
                Some(End::Return | End::Filling) => network.add(2 * index, sink, ENDLESS, 0),
                // Accounted elsewhere, or nowhere.
                Some(_) => network.add(source, 2 * index, ENDLESS, 0),
                None => {}
            }
            let is_jump = node.successors.len() > 1;
            let all = self.on_all(index).filter(|_| is_jump).map_or(ENDLESS, |crossing| crossing.weight);
            network.add(2 * index, 2 * index + 1, all, ENDLESS);
            for (number, edge) in node.successors.iter().enumerate().filter(|(_, edge)| self.is_live(edge)) {
                let other = |crossing: &Crossing| match (is_jump, crossing.holders.zero) {
                    (false, _) => 0,
                    (true, false) => OTHER_WAY,
                    (true, true) => COMMON_OTHER_WAY,
                };
                let crossing = self.on(index, number);
                let weight = crossing.map_or(ENDLESS, |crossing| crossing.weight + other(crossing));
                network.add(2 * index + 1, 2 * edge.to, weight, ENDLESS);
            }
        }
        network.min_cut(source, sink).map(|(cost, far)| (cost, Sides(far))).ok_or(NoCut::NoSite)
    }

    /// The instructions where the far side is entered. An edge to do without where an instruction's two edges do not
    /// agree on where the result is.
    fn crossed(&self, far: &Sides) -> Result<Vec<Chosen>, EdgeId> {
        let mut chosen = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate().filter(|(_, node)| node.live) {
            let numbers: Vec<usize> = far.crossed(index, node).collect();
            let crossings = numbers.iter().filter_map(|number| self.on(index, *number));
            let ways = numbers.iter().map(|number| node.successors[*number].way).collect();
            match (numbers.first(), crossings.cloned().reduce(|one, other| one.with(&other))) {
                (None, _) => {}
                (_, Some(crossing)) if !crossing.holders.is_empty() => {
                    chosen.push(Chosen { node: index, ways, crossing });
                }
                (Some(first), _) => return Err((index, *first)),
            }
        }
        Ok(chosen)
    }

    fn with_stashes(&self, cost: u64, far: &Sides, chosen: &[Chosen]) -> Result<Found, NoCut> {
        let whole_possible = is_whole_possible(self.shape);
        let needs = |site: &&Chosen| {
            let is_failure = site.crossing.holders.is_only_zero() && self.shape != Shape::OutPointer;
            let alone = if whole_possible {
                site.crossing.sized || is_failure
            } else {
                // Nothing was freed yet.
                is_failure && !self.candidates.acted(site.node)
            };
            self.graph.nodes[site.node].shared || !alone
        };
        let need: Vec<usize> = chosen.iter().filter(needs).map(|site| site.node).collect();
        let lone: Vec<usize> = chosen
            .iter()
            .filter(|site| !needs(site) && !site.crossing.holders.is_only_zero())
            .map(|site| site.node)
            .collect();
        let (stash_cost, behind) = self.stashes(far, &need, &lone)?;
        let mut sites = self.begins(&behind);
        let begins = sites.len();
        let (mut wholes, mut late, mut drawn) = (0, None, Vec::new());
        for Chosen { node, ways, crossing } in chosen {
            let role = if behind.0[2 * node] { Role::Result } else { Role::Whole };
            if role == Role::Result && !need.contains(node) && crossing.holders.is_only_zero() {
                let numbers = far.crossed(*node, &self.graph.nodes[*node]);
                drawn.extend(numbers.map(|number| (*node, number)));
            }
            let is_failure = crossing.holders.zero && self.shape != Shape::OutPointer;
            wholes += u32::from(role == Role::Whole && !is_failure);
            if !crossing.emulated && !is_failure {
                late = Some(NoCut::Late(self.graph.nodes[*node].instruction.ip()));
            }
            sites.push(self.candidates.site(*node, role, condition_of(self.graph, *node, ways), crossing));
        }
        let apart = need.first().map(|node| {
            let at = self.graph.nodes[*node].instruction.ip();
            if whole_possible { NoCut::Apart(at) } else { NoCut::TwoEnds }
        });
        let kind = match (late, begins, wholes) {
            (Some(_), _, _) => Kind::Stepped,
            (None, 0, _) => Kind::OneTrap,
            (None, _, 0) => Kind::EntryAndExits,
            (None, _, _) => Kind::Stash,
        };
        sites.sort_by_key(|site| (site.role, site.address));
        let is_passed = |index: &usize| matches!(self.graph.nodes[*index].end, Some(End::PassesOn(_)));
        let keeps_passed = (0..self.graph.nodes.len()).filter(is_passed).all(|index| behind.0[2 * index]);
        Ok(Found { cost: cost + stash_cost, sites, kind, why: late.or(apart), drawn, keeps_passed })
    }

    /// What lies behind the sites that keep arguments: every result that needs them, and nothing leads back out but
    /// into the far side. `lone` are those that need none.
    fn stashes(&self, far: &Sides, need: &[usize], lone: &[usize]) -> Result<(u64, Sides), NoCut> {
        if need.is_empty() {
            return Ok((0, Sides(vec![false; far.0.len()])));
        }
        let is_elsewhere =
            |node: &usize| matches!(self.graph.nodes[*node].end, Some(End::PassesOn(_) | End::Unknown));
        let elsewhere: Vec<usize> = (0..self.graph.nodes.len()).filter(is_elsewhere).collect();
        let all: Vec<usize> = lone.iter().chain(&elsewhere).copied().collect();
        let price = |(cost, behind): (u64, Sides)| {
            let count = |nodes: &[usize]| nodes.iter().filter(|node| behind.0[2 * **node]).count() as u64;
            (cost + DEMOTED * count(lone) + PENDING * count(&elsewhere), behind)
        };
        let choices = [all.as_slice(), lone, elsewhere.as_slice(), &[]];
        let found = choices.into_iter().filter_map(|before| self.stash_cut(far, need, before));
        found.map(price).min_by_key(|(cost, _)| *cost).ok_or(NoCut::NoSite)
    }

    fn stash_cut(&self, far: &Sides, need: &[usize], before: &[usize]) -> Option<(u64, Sides)> {
        let nodes = &self.graph.nodes;
        let mut network = Network::new(2 * nodes.len() + 2);
        let (source, sink) = (2 * nodes.len(), 2 * nodes.len() + 1);
        network.add(source, 0, ENDLESS, 0);
        need.iter().for_each(|node| network.add(2 * node, sink, ENDLESS, 0));
        before.iter().for_each(|node| network.add(source, 2 * node, ENDLESS, 0));
        for (index, node) in nodes.iter().enumerate().filter(|(index, node)| node.live && !far.0[2 * index]) {
            // A site that sees a result, too, would be two at one address.
            let is_result = far.crossed(index, node).next().is_some();
            let begin = self.candidates.begin(index).filter(|_| !is_result).map(|begin| begin.weight);
            network.add(2 * index, 2 * index + 1, begin.unwrap_or(ENDLESS), ENDLESS);
            let one_way = begin.filter(|_| node.successors.len() > 1).map(|weight| weight + COMMON_OTHER_WAY);
            for edge in node.successors.iter().filter(|edge| self.is_live(edge) && !far.0[2 * edge.to]) {
                network.add(2 * index + 1, 2 * edge.to, one_way.unwrap_or(ENDLESS), ENDLESS);
            }
        }
        let (cost, mut behind) = network.min_cut(source, sink)?;
        // What is not part of this is on neither side.
        for side in behind.iter_mut().zip(&far.0).filter(|(_, far)| **far) {
            *side.0 = false;
        }
        Some((cost, Sides(behind)))
    }

    fn begins(&self, behind: &Sides) -> Vec<CutSite> {
        let mut sites = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate().filter(|(_, node)| node.live) {
            let ways: Vec<Way> =
                behind.crossed(index, node).map(|number| node.successors[number].way).collect();
            if let Some(begin) = self.candidates.begin(index).filter(|_| !ways.is_empty()) {
                let condition = if behind.0[2 * index + 1] {
                    condition::ALWAYS
                } else {
                    condition_of(self.graph, index, &ways)
                };
                sites.push(self.candidates.site(index, Role::Begin, condition, begin));
            }
        }
        sites
    }
}

/// Which places, before and behind each node, are on the far side of a cut.
struct Sides(Vec<bool>);

impl Sides {
    /// The numbers of the edges by which a node's instruction leads to the far side.
    fn crossed<'a>(&'a self, index: usize, node: &'a Node) -> impl Iterator<Item = usize> + 'a {
        let (before, behind) = (self.0[2 * index], self.0[2 * index + 1]);
        let leads = move |edge: &Edge| !before && (behind || self.0[2 * edge.to]);
        node.successors.iter().enumerate().filter(move |(_, edge)| leads(edge)).map(|(number, _)| number)
    }
}

/// When a hit of `node` means that control goes on by one of `ways`.
pub fn condition_of(graph: &Graph<'_, '_>, node: usize, ways: &[Way]) -> u8 {
    let node = &graph.nodes[node];
    if node.instruction.flow_control() != FlowControl::ConditionalBranch {
        // cmov and set have conditions, too.
        return condition::ALWAYS;
    }
    let nibble = match node.instruction.condition_code() {
        ConditionCode::None => return condition::ALWAYS,
        code => code as u8 - 1,
    };
    match (ways.contains(&Way::Taken), ways.contains(&Way::Next)) {
        (true, false) => condition::taken(nibble),
        (false, true) => condition::not_taken(nibble),
        _ => condition::ALWAYS,
    }
}
