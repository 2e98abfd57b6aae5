//! What somebody has judged already: stacks that a suppression file names are taken out before anything is reported, and counted.

use super::{View, labels::Labels, select::amount_of};
use crate::{
    attribution::{Asked, Attribution, Class, Suppression, Suppressions},
    model::{Amount, Profile, Site},
    printable::printable,
    units::{counted, thousands},
};
use heaptrace_common::function::Function;
use serde::Serialize;
use std::{cell::OnceCell, collections::BTreeMap};

/// What was ignored, in the measure of the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    pub stacks: u64,
    pub amount: Amount,
    /// By suppression, the most bytes first.
    by: Vec<By>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct By {
    file: String,
    line: usize,
    name: String,
    stacks: u64,
    bytes: u64,
    count: u64,
}

/// For programs.
#[derive(Serialize)]
pub(super) struct Entry<'a> {
    stacks: u64,
    bytes: u64,
    count: u64,
    by: &'a [By],
}

impl Ignored {
    fn take(
        &mut self,
        suppression: &Suppression,
        at: usize,
        places: &mut BTreeMap<usize, usize>,
        amount: Amount,
    ) {
        self.stacks += 1;
        self.amount.add(amount);
        let place = *places.entry(at).or_insert_with(|| {
            let Suppression { file, line, name, .. } = suppression;
            let (file, line, name) = (file.clone(), *line, name.clone());
            self.by.push(By { file, line, name, stacks: 0, bytes: 0, count: 0 });
            self.by.len() - 1
        });
        let by = &mut self.by[place];
        by.stacks += 1;
        by.bytes = by.bytes.saturating_add(amount.bytes);
        by.count = by.count.saturating_add(amount.count);
    }

    /// In words: all together first, then by suppression; without `all` only the largest.
    pub fn lines(&self, (one, many): (&str, &str), all: bool) -> Vec<String> {
        const SHOWN: usize = 5;
        let what = |bytes, count, stacks| {
            let (blocks, stacks) = (counted(count, one, many), counted(stacks, "stack", "stacks"));
            format!("{} bytes in {blocks} of {stacks}", thousands(bytes))
        };
        let Self { stacks, amount: Amount { bytes, count }, by } = self;
        let mut lines = vec![format!("ignored (--ignore): {}", what(*bytes, *count, *stacks))];
        let shown = if all { by.len() } else { SHOWN };
        lines.extend(by.iter().take(shown).map(|of| {
            let (file, name) = (printable(&of.file), printable(&of.name));
            format!("  {file}:{} {name}: {}", of.line, what(of.bytes, of.count, of.stacks))
        }));
        if by.len() > shown {
            lines.push(format!(
                "  and by {} more (--verbose)",
                counted((by.len() - shown) as u64, "suppression", "suppressions")
            ));
        }
        lines
    }

    pub(super) fn entry(&self) -> Entry<'_> {
        let Self { stacks, amount: Amount { bytes, count }, by } = self;
        Entry { stacks: *stacks, bytes: *bytes, count: *count, by }
    }
}

/// Takes out of `profile` what is to be ignored, and tells what that has in a view.
pub fn ignore(profile: &mut Profile, suppressions: &Suppressions, view: View) -> Ignored {
    let mut ignored = Ignored::default();
    let mut places = BTreeMap::new();
    let (of_blocks, of_growth) = {
        let known = Known::new(profile, suppressions);
        let mut of = |sites: &[Site], counts: bool| -> Vec<bool> {
            let found = sites.iter().map(|site| {
                let Some(number) = known.suppression_of(site) else { return false };
                if let Some(suppression) = suppressions.get(number).filter(|_| counts && is_in(site, view)) {
                    ignored.take(suppression, number, &mut places, amount_of(&site.totals, view));
                }
                true
            });
            found.collect()
        };
        let is_of_blocks = view.is_of_blocks();
        (of(&profile.sites, is_of_blocks), of(&profile.growth, !is_of_blocks))
    };
    profile.take_out(&of_blocks, &of_growth);
    ignored.by.sort_by_key(|of| (std::cmp::Reverse(of.bytes), of.line));
    ignored
}

/// Whether a site has anything in a view.
fn is_in(site: &Site, view: View) -> bool {
    let is_of_view = match view {
        View::Growth => site.function.is_growth(),
        View::Faults => site.function == Function::PageFault,
        _ => true,
    };
    is_of_view && amount_of(&site.totals, view) != Amount::default()
}

/// What is known of a profile's frames.
pub(super) struct Known<'a> {
    labels: Labels<'a>,
    profile: &'a Profile,
    suppressions: &'a Suppressions,
    /// Of each label, once it was asked for.
    fitting: Vec<OnceCell<Box<[u32]>>>,
}

impl<'a> Known<'a> {
    pub fn new(profile: &'a Profile, suppressions: &'a Suppressions) -> Self {
        static HIDDEN: std::sync::LazyLock<Attribution> = std::sync::LazyLock::new(Attribution::default);
        let labels = Labels::attributed(profile, &HIDDEN);
        let fitting = vec![OnceCell::new(); labels.len()];
        Self { labels, profile, suppressions, fitting }
    }

    /// The number of the first suppression that a site's stack fits.
    pub fn suppression_of(&self, site: &Site) -> Option<usize> {
        let name = site.function.name();
        let function =
            self.suppressions.fitting(&Asked { function: name, module: "", source: "", line: None });
        let frames = self.labels.frames(Some(site.stack));
        let labels = || frames.iter().flat_map(|frame| self.labels.of_frame(*frame)).copied();
        let stack: Vec<&[u32]> =
            std::iter::once(&*function).chain(labels().map(|label| self.of_label(label))).collect();
        let is_allocators = |label: &u32| self.labels.class_of(*label) == Some(Class::Allocator);
        let allocators = labels().take_while(is_allocators).count();
        self.suppressions.first_of(&stack, allocators)
    }

    fn of_label(&self, id: u32) -> &[u32] {
        self.fitting[id as usize].get_or_init(|| {
            let label = self.labels.get(id);
            let module = label.module.and_then(|module| self.profile.modules.get(module.index()));
            let (source, line) = match &label.source {
                Some((source, line)) => (source.as_ref(), *line),
                None => ("", None),
            };
            let module = module.map_or("", |module| module.path.as_str());
            self.suppressions.fitting(&Asked { function: &label.name, module, source, line })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::full;
    use std::path::Path;

    fn suppressions(text: &str) -> Suppressions {
        let mut all = Suppressions::default();
        all.add(Path::new("known.supp"), text).expect("good");
        all
    }

    #[test]
    fn what_is_ignored_is_counted_and_in_no_total() {
        let before = full();
        let mut profile = before.clone();
        let known = suppressions(
            "leak:^load$\n{\nplaces without names\nMemcheck:Leak\nfun:calloc\nobj:*/libfoo.so*\n}\n",
        );
        let ignored = ignore(&mut profile, &known, View::Live);
        assert_eq!((ignored.stacks, ignored.amount), (3, Amount { bytes: 127_777, count: 11 }));
        assert_eq!(
            ignored.lines(("block", "blocks"), false),
            [
                "ignored (--ignore): 127,777 bytes in 11 blocks of 3 stacks",
                "  known.supp:2 places without names: 77,777 bytes in 3 blocks of 1 stack",
                "  known.supp:1 leak:^load$: 50,000 bytes in 8 blocks of 2 stacks",
            ]
        );
        let live =
            |profile: &Profile| -> u64 { profile.processes.iter().map(|of| of.totals.live_bytes()).sum() };
        assert_eq!(live(&before) - live(&profile), 127_777);
        assert!(profile.growth.len() < before.growth.len());
    }

    #[test]
    fn nothing_is_ignored_that_nobody_named() {
        let mut profile = full();
        let ignored = ignore(&mut profile, &suppressions("leak:no such\n"), View::Alloc);
        assert_eq!((ignored, profile), (Ignored::default(), full()));
    }
}
