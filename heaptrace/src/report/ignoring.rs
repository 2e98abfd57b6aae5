//! Stacks that a suppression file names are taken out of a profile before anything of it is reported.

use super::{View, ignored::Ignored, labels::Labels, select::amount_of};
use crate::{
    attribution::{Asked, Attribution, Class, Suppressions},
    model::{Amount, Profile, Site},
};
use heaptrace_common::function::Function;
use std::{cell::OnceCell, collections::BTreeMap};

/// Takes out of `profile` what is to be ignored, and tells what that has in a view, of all processes or of that with this PID.
pub fn ignore(profile: &mut Profile, suppressions: &Suppressions, view: View, pid: Option<u32>) -> Ignored {
    let mut ignored = Ignored::default();
    let mut places = BTreeMap::new();
    let (of_blocks, of_growth) = {
        let known = Known::new(profile, suppressions);
        let is_chosen = |site: &Site| {
            let process = profile.processes.get(site.process.index());
            process.is_some_and(|process| pid.is_none_or(|pid| pid == process.pid))
        };
        let mut of = |sites: &[Site], counts: bool| -> Vec<bool> {
            let found = sites.iter().map(|site| {
                let Some(number) = known.suppression_of(site) else { return false };
                if let Some(suppression) =
                    suppressions.get(number).filter(|_| counts && is_chosen(site) && is_in(site, view))
                {
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
    ignored.sort();
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
    /// Of each allocation function by its number, the same.
    functions: [OnceCell<Box<[u32]>>; Function::ALL.len()],
}

impl<'a> Known<'a> {
    pub fn new(profile: &'a Profile, suppressions: &'a Suppressions) -> Self {
        static HIDDEN: std::sync::LazyLock<Attribution> = std::sync::LazyLock::new(Attribution::default);
        let labels = Labels::attributed(profile, &HIDDEN);
        let fitting = vec![OnceCell::new(); labels.len()];
        Self { labels, profile, suppressions, fitting, functions: Default::default() }
    }

    /// The number of the first suppression that a site's stack fits.
    pub fn suppression_of(&self, site: &Site) -> Option<usize> {
        let function = self.functions[site.function as usize].get_or_init(|| {
            let asked = Asked { function: site.function.name(), module: "", source: "", line: None };
            self.suppressions.fitting(&asked)
        });
        let frames = self.labels.frames(Some(site.stack));
        let labels = || frames.iter().flat_map(|frame| self.labels.of_frame(*frame)).copied();
        let stack: Vec<&[u32]> =
            std::iter::once(&**function).chain(labels().map(|label| self.of_label(label))).collect();
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
        let ignored = ignore(&mut profile, &known, View::Live, None);
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
    fn of_one_process_only_its_own_is_counted() {
        let known = suppressions("leak:^load$\n");
        let stacks = |pid| ignore(&mut full(), &known, View::Live, Some(pid)).stacks;
        assert_eq!([stacks(42), stacks(43), stacks(7)], [1, 1, 0]);
    }

    #[test]
    fn nothing_is_ignored_that_nobody_named() {
        let mut profile = full();
        let ignored = ignore(&mut profile, &suppressions("leak:no such\n"), View::Alloc, None);
        assert_eq!((ignored, profile), (Ignored::default(), full()));
    }
}
