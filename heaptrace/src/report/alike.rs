//! Sites that read the same: of one process and allocation function, whose stacks differ in nothing that is shown of them.

use super::labels::{Labels, Place};
use crate::model::Site;
use std::cmp::Ordering;

/// Groups of `sites`, by their places in it; each has at least one, in order, and groups come in the order of their first.
pub(super) fn groups(labels: &Labels<'_>, sites: &[&Site]) -> Vec<Vec<usize>> {
    let starts: Vec<Place> = sites.iter().map(|site| labels.first_shown(Some(site.stack))).collect();
    let compare = |one: usize, other: usize| {
        let (a, b) = (sites[one], sites[other]);
        let by_site = (a.process, a.function as u32).cmp(&(b.process, b.function as u32));
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
            |attribution: &Attribution| groups(&Labels::attributed(&profile, attribution), &sites);
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
}
