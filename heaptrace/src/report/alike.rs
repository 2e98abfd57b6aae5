//! Sites that read the same: of one process and allocation function, whose stacks differ in nothing that is shown of them.

use super::labels::{Labels, Place};
use crate::model::Site;
use std::cmp::Ordering;

/// Groups of `sites`, by their places in it; each has at least one, in order, and groups come in the order of their first. Those
/// of several threads are apart where `by_thread` says so.
pub(super) fn groups(labels: &Labels<'_>, sites: &[&Site], by_thread: bool) -> Vec<Vec<usize>> {
    let starts: Vec<Place> = sites.iter().map(|site| labels.first_shown(Some(site.stack))).collect();
    let compare = |one: usize, other: usize| {
        let (a, b) = (sites[one], sites[other]);
        let key = |site: &Site| (site.process, site.function as u32, site.thread.filter(|_| by_thread));
        let by_site = key(a).cmp(&key(b));
        by_site.then_with(|| match (a.stack == b.stack, labels.hides()) {
            (true, _) => Ordering::Equal,
            (false, false) => a.stack.cmp(&b.stack),
            (false, true) => {
                let shown = |site: &Site, start| labels.walk_from(Some(site.stack), start);
                shown(a, starts[one]).cmp(shown(b, starts[other]))
            }
        })
    };
    let mut order: Vec<usize> = (0..sites.len()).collect();
    order.sort_unstable_by(|one, other| compare(*one, *other).then(one.cmp(other)));
    let same = order.chunk_by(|one, other| compare(*one, *other).is_eq());
    let mut groups: Vec<Vec<usize>> = same.map(<[usize]>::to_vec).collect();
    groups.sort_unstable_by_key(|group| group[0]);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{attribution::Attribution, fixtures::profiles::full};

    #[test]
    fn stacks_that_differ_in_hidden_frames_alone_are_one() {
        let profile = full();
        let sites: Vec<&Site> = profile.sites.iter().collect();
        let groups_by =
            |attribution: &Attribution| groups(&Labels::attributed(&profile, attribution), &sites, false);
        let alone: Vec<Vec<usize>> = (0..sites.len()).map(|index| vec![index]).collect();
        assert_eq!(groups_by(&Attribution::default()), alone);
        // What is left of the first two is the same, of malloc in the first process: load is hidden, too.
        let more = Attribution::new(false, Some("buffer::*\nload"), false).expect("patterns");
        let merged = groups_by(&more);
        assert!(merged.contains(&vec![0, 1]), "{merged:?}");
        let shown = Labels::attributed(&profile, &more);
        assert!(merged.iter().any(|group| group[0] == 2) && shown.folded(Some(sites[0].stack)) == 2);
        // And nothing is where all is shown.
        assert_eq!(groups_by(&Attribution::raw()), alone);
    }

    #[test]
    fn threads_are_told_apart_where_they_are_to_be() {
        let profile = crate::fixtures::profiles::threaded();
        let sites: Vec<&Site> = profile.sites.iter().collect();
        let last = sites.len() - 1;
        let labels = Labels::new(&profile);
        assert!(groups(&labels, &sites, false).contains(&vec![0, last]));
        assert_eq!(groups(&labels, &sites, true).len(), sites.len());
    }
}
