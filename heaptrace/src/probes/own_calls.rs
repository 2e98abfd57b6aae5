//! Which calls of a file's probed functions the allocator makes itself, and where calls that one function hands on to
//! another end.

use super::candidate::Described;
use super::cut::Cut;
use super::probe::Site;
use super::ranges::merged;
use super::symbols::{FoundFunction, Probing};
use heaptrace_common::probe::{OwnCode, ProbeRecord, Role};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// Which of a file's probed functions call or jump to which.
pub(super) struct AllocatorCode {
    /// Code that calls allocation functions on behalf of one that was called, and which.
    calls: Vec<(Range<u64>, Vec<u64>)>,
    /// Those of it that may run in a call whose beginning is not seen.
    unbegun: HashSet<Range<u64>>,
    /// Functions that another one may jump to at its end.
    pub joined: HashSet<u64>,
    /// Functions whose calls are seen: probed, or handing on what a probed one gives.
    reached: HashSet<u64>,
}

impl AllocatorCode {
    /// Of the probed `functions` by entry, and of those that only hand on what these give.
    pub fn of(functions: &BTreeMap<u64, &FoundFunction>, handing_on: &[&FoundFunction]) -> Self {
        let reached = functions.values().chain(handing_on).map(|function| function.address).collect();
        let mut code = Self { calls: Vec::new(), unbegun: HashSet::new(), joined: HashSet::new(), reached };
        let begins = |address: &u64| {
            let of_address = functions.values().find(|function| function.address == *address);
            of_address.is_some_and(|f| matches!(&f.probing, Probing::Sites { cut, .. } if cut.begins_first))
        };
        let mut passes_on: HashMap<u64, &[u64]> = HashMap::new();
        let mut calling: HashMap<u64, Vec<Range<u64>>> = HashMap::new();
        for function in functions.values() {
            if let Probing::Sites { cut, calls } = &function.probing {
                code.joined.extend(&cut.passes_on);
                passes_on.insert(function.address, &cut.passes_on);
                for call in calls.iter().filter(|(_, targets)| !targets.is_empty()) {
                    let between = cut.between.iter().find(|(range, _)| *range == call.0);
                    if !between.map_or_else(|| begins(&function.address), |(_, by)| by.iter().all(begins)) {
                        code.unbegun.insert(call.0.clone());
                    }
                    calling.entry(function.address).or_default().push(call.0.clone());
                    if !code.calls.contains(call) {
                        code.calls.push(call.clone());
                    }
                }
            }
        }
        // Who calls a function that ends in a jump calls where that leads, too.
        for (_, targets) in &mut code.calls {
            let mut next = 0;
            while let Some(target) = targets.get(next) {
                let further = passes_on.get(target).copied().unwrap_or_default();
                let new: Vec<u64> = further.iter().filter(|to| !targets.contains(to)).copied().collect();
                targets.extend(new);
                next += 1;
            }
        }
        // A call within one whose beginning is not seen begins nothing either, wherever it is made.
        let mut new: Vec<Range<u64>> = code.unbegun.iter().cloned().collect();
        while let Some(range) = new.pop() {
            let of_range = code.calls.iter().filter(|(calling, _)| *calling == range);
            let targets = of_range.flat_map(|(_, targets)| targets);
            let further: Vec<_> =
                targets.filter_map(|target| calling.get(target)).flatten().cloned().collect();
            new.extend(further.into_iter().filter(|range| code.unbegun.insert(range.clone())));
        }
        code.calls.sort_by_key(|(range, _)| range.start);
        code
    }

    /// The code whose calls of the function at `address` are the allocator's own, in order, merged.
    pub fn own_of(&self, address: u64) -> Vec<Range<u64>> {
        let calling = self.calls.iter().filter(|(_, targets)| targets.contains(&address));
        merged(calling.map(|(range, _)| range.clone()).collect(), 0)
    }

    /// Whether the function at `address` is called by such code only while a call is under way whose beginning is seen.
    fn is_within_begun(&self, address: u64) -> bool {
        let mut calling = self.calls.iter().filter(|(_, targets)| targets.contains(&address));
        calling.all(|(range, _)| !self.unbegun.contains(range))
    }

    /// A cut's sites, all or none.
    pub fn sites(
        &self,
        file: &Described<'_>,
        function: &FoundFunction,
        cut: &Cut,
        direct_is_own: bool,
    ) -> Option<Vec<Site>> {
        let own = self.own_of(function.address);
        let sites = cut.sites.iter().map(|site| {
            let mut record = ProbeRecord {
                condition: site.condition,
                size: site.size.to_bits(),
                factor: site.factor.to_bits(),
                result: site.result.to_bits(),
                caller_bp: site.caller_bp.to_bits(),
                shared: site.shared.into(),
                joined: self.joined.contains(&function.address).into(),
                within_begun: (function.known.shape.allocates() && self.is_within_begun(function.address))
                    .into(),
                passes_on: (function.known.frees() && !cut.passes_on.is_empty()).into(),
                direct_is_own: direct_is_own.into(),
                pushed: site.pushed,
                from_entry: i32::try_from(site.address.wrapping_sub(function.address) as i64).ok()?,
                ..ProbeRecord::new(function.known.function, function.known.shape, site.role)
            };
            for (slot, range) in record.own.iter_mut().zip(&own) {
                let distance = |to: u64| i32::try_from(to.wrapping_sub(site.address) as i64).ok();
                *slot = OwnCode { start: distance(range.start)?, end: distance(range.end)? };
                record.own_count += 1;
            }
            let (offset, _) = file.elf.code_offset(site.address)?;
            Some(Site { offset, record, emulated: site.emulated, text: site.text.clone(), semaphore: 0 })
        });
        sites.collect()
    }

    /// Where a function goes on in another one that is not probed for its own sake, as another file's is called: that
    /// one's results, for the calls whose beginnings are kept; and where the calls are not seen.
    pub fn handed_on(&self, file: &Described<'_>, function: &FoundFunction, cut: &Cut) -> HandedOn {
        let mut handed_on = HandedOn::default();
        if !function.known.shape.allocates() {
            return handed_on;
        }
        for entry in cut.passes_on.iter().filter(|entry| !self.reached.contains(entry)) {
            let target = file.symbols.functions.iter().find(|target| target.address == *entry);
            let sites = target.and_then(|target| match &target.probing {
                Probing::Sites { cut, .. } if target.known.shape.allocates() => {
                    self.sites(file, target, cut, false)
                }
                _ => None,
            });
            let results = sites.into_iter().flatten().filter(|site| site.record.role != Role::Begin as u8);
            let before = handed_on.sites.len();
            handed_on.sites.extend(results.map(|site| Site {
                record: ProbeRecord { role: Role::Result as u8, shared: 1, ..site.record },
                ..site
            }));
            if !cut.keeps_passed || handed_on.sites.len() == before {
                let name = target.map_or_else(|| format!("{entry:#x}"), |target| target.symbol.clone());
                handed_on.unseen.push(name);
            }
        }
        handed_on
    }
}

/// What becomes of calls that a function hands on to unprobed ones.
#[derive(Default)]
pub(super) struct HandedOn {
    pub sites: Vec<Site>,
    /// Functions in which calls end unseen.
    pub unseen: Vec<String>,
}
