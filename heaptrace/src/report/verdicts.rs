//! Verdicts on sites: in words, each with its evidence in one line, and for programs.

use super::alike::groups;
use super::labels::{LabelId, Labels};
use super::table::process_name;
use super::{Options, select};
use crate::model::{ProcessId, Profile, Site, SiteId};
use crate::units::{counted, duration, human, in_seconds, percent, thousands};
use crate::verdicts::{Judgement, Reason, Verdict, judge, judge_together};
use serde::Serialize;
use std::cmp::Reverse;
use std::io::{self, Write};

/// Sites that a report ends with.
const SHOWN: usize = 3;

/// What 95 of 100 estimates from `n` samples are off by at most: this by the root of `n`.
const NORMAL95: f64 = 1.96;

/// `LEAK-LIKE: none of 487 blocks was freed in 58 s; grows 1.2 MiB/min`.
pub fn in_words(judgement: &Judgement, is_sampled: bool) -> String {
    format!("{}: {}", judgement.verdict.title(), evidence(judgement, is_sampled))
}

fn evidence(judgement: &Judgement, is_sampled: bool) -> String {
    let Judgement {
        verdict,
        reason,
        span_ns,
        old_age_ns,
        old_allocated,
        old_live,
        live,
        allocated,
        freed,
        late_ns,
        late_allocated,
        late_freed,
        oldest_ns,
        bytes_per_minute,
        knows_frees,
    } = *judgement;
    let (one, many) = if is_sampled { ("sample", "samples") } else { ("block", "blocks") };
    let blocks = |count| counted(count, one, many);
    // Nobody waits for tenths of seconds.
    let round = |ns: u64| duration(ns.div_ceil(1_000_000_000) * 1_000_000_000);
    let grows = || {
        let rate = human(bytes_per_minute);
        let most = if knows_frees { "" } else { "up to " };
        let off = match old_live {
            1.. if is_sampled => format!(" (±{:.0}%)", NORMAL95 / (old_live as f64).sqrt() * 100.0),
            _ => String::new(),
        };
        format!("grows {most}{rate}/min{off}")
    };
    match reason {
        Reason::NothingFreed => format!(
            "none of {} was freed in {}; {} (so does what takes longer to fill)",
            blocks(live),
            round(span_ns),
            grows()
        ),
        Reason::NoneOfTheOldFreed => {
            let (age, share) = (round(old_age_ns), percent(old_live, old_allocated));
            let of = blocks(old_allocated);
            let (most, are) =
                if knows_frees { ("", "still live") } else { ("up to ", "not known to be over") };
            format!(
                "{most}{} of {of} from {age} ago and before ({share:.1}%) are {are}, and age makes no difference; {}",
                thousands(old_live),
                grows()
            )
        }
        Reason::LargerAndLarger => {
            format!("{} replaced by larger ones again and again; {}", blocks(live), grows())
        }
        Reason::TooEarly { needed_ns } if freed == 0 => {
            format!("no free yet, too early to tell (needs about {} more)", round(needed_ns))
        }
        Reason::TooEarly { needed_ns } => {
            format!("grows, too early to tell (needs about {} more)", round(needed_ns))
        }
        Reason::JustBegun { age_ns, needed_ns } => {
            format!("began {} ago, too early to tell (needs about {} more)", round(age_ns), round(needed_ns))
        }
        Reason::Slowing { percent } => {
            format!("{} are live, and {percent}% fewer stay than in the beginning", blocks(live))
        }
        Reason::OldFreed => {
            format!("grows, but old ones are freed: too early to tell; oldest {}", round(oldest_ns))
        }
        Reason::Balanced if knows_frees => format!(
            "as many freed as allocated ({} and {} in the last {}); oldest {}",
            thousands(late_freed),
            thousands(late_allocated),
            round(late_ns),
            round(oldest_ns)
        ),
        Reason::Balanced => format!("old ones are over; oldest {}", round(oldest_ns)),
        Reason::Stopped if verdict == Verdict::PoolLike => format!(
            "no more are allocated; of {} {} stay, for {}",
            blocks(allocated),
            thousands(live),
            round(oldest_ns)
        ),
        Reason::Stopped => format!("no more are allocated; {}, for {}", blocks(live), round(oldest_ns)),
        Reason::NoGrowth if knows_frees => format!(
            "no growth beyond noise ({} allocated, {} freed in the last {})",
            thousands(late_allocated),
            thousands(late_freed),
            round(late_ns)
        ),
        Reason::NoGrowth => "no growth that is known".to_owned(),
    }
}

/// The verdict on a site of a recording, if it can be judged.
pub(super) fn of_site(profile: &Profile, site: SiteId) -> Option<Judgement> {
    judge(profile.cohorts.get(&site)?, profile.mode.has_frees())
}

/// Writes the sites that look most like leaks, if any does.
pub(super) fn write_leaks(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let labels = Labels::attributed(profile, &options.frames);
    let functions = leaking(profile, options, &labels);
    let all = functions.len();
    let most = match all {
        0 => return Ok(()),
        1 => "One function looks like a leak:".to_owned(),
        2..=SHOWN => format!("{all} functions look like leaks:"),
        _ => format!("{} functions look like leaks, most of all:", thousands(all as u64)),
    };
    writeln!(out, "#\n# {most}")?;
    for (place, of) in (1..).zip(functions.iter().take(SHOWN)) {
        let process = profile.processes.get(of.process.index()).map_or_else(String::new, process_name);
        let (by, live) = (labels.describe(of.label), human(of.live_bytes));
        let more = match of.stacks {
            1 => String::new(),
            stacks => format!(" of {stacks} stacks"),
        };
        writeln!(out, "#   {place}. {by} in {process}, {live} live{more}")?;
        writeln!(out, "#      {}", in_words(&of.judgement, profile.mode.sample_bytes() != 0))?;
    }
    Ok(())
}

/// The functions with rows that look like leaks, the most suspicious first: sites that read the same are judged together. A
/// function that leaks does so at many of its lines: its blocks are theirs together.
pub(super) fn leaking<'l>(profile: &Profile, options: &Options, labels: &'l Labels<'_>) -> Vec<Leaking<'l>> {
    let known: Vec<(SiteId, &Site)> = profile
        .cohorts
        .keys()
        .filter_map(|id| {
            let site = profile.sites.get(id.index())?;
            let process = profile.processes.get(site.process.index())?;
            select::chosen(process, options).then_some((*id, site))
        })
        .collect();
    let mut leaks: Vec<(Alike<'_>, Judgement)> = judged(profile, labels, &known)
        .into_iter()
        .filter_map(|of| {
            of.judged.filter(|judged| judged.verdict == Verdict::LeakLike).map(|judged| (of, judged))
        })
        .collect();
    leaks.sort_by_key(|(of, judgement)| (judgement.rank(), of.id));
    let mut functions: Vec<Leaking<'l>> = Vec::new();
    for (Alike { site, members, .. }, judgement) in leaks {
        let stacks = members.len() as u64;
        let live_bytes = members.iter().fold(0, |sum: u64, of| sum.saturating_add(of.totals.live_bytes()));
        let Some(label) = labels.walk_shown(Some(site.stack)).next() else { continue };
        let (process, name) = (site.process, labels.get(label).name.as_ref());
        match functions.iter_mut().find(|of| of.process == process && of.name == name) {
            Some(of) => {
                of.stacks += stacks;
                of.live_bytes = of.live_bytes.saturating_add(live_bytes);
            }
            None => functions.push(Leaking { process, name, label, judgement, stacks, live_bytes }),
        }
    }
    functions
}

/// Sites that read the same.
pub(super) struct Alike<'a> {
    /// The one with most live bytes.
    pub id: SiteId,
    pub site: &'a Site,
    pub members: Vec<&'a Site>,
    pub judged: Option<Judgement>,
}

/// Groups of sites, each judged as one.
pub(super) fn judged<'a>(
    profile: &Profile,
    labels: &Labels<'_>,
    known: &[(SiteId, &'a Site)],
) -> Vec<Alike<'a>> {
    let sites: Vec<&Site> = known.iter().map(|(_, site)| *site).collect();
    let alike = |group: Vec<usize>| {
        let cohorts: Vec<_> = group.iter().filter_map(|at| profile.cohorts.get(&known[*at].0)).collect();
        let largest = *group.iter().max_by_key(|at| (sites[**at].totals.live_bytes(), Reverse(**at)))?;
        let (id, site) = known[largest];
        let members = group.into_iter().map(|at| known[at].1).collect();
        Some(Alike { id, site, members, judged: judge_together(&cohorts, profile.mode.has_frees()) })
    };
    groups(labels, &sites, false).into_iter().filter_map(alike).collect()
}

/// A function of a process with sites that look like leaks.
pub(super) struct Leaking<'a> {
    pub process: ProcessId,
    name: &'a str,
    /// Of the site that does most.
    pub label: LabelId,
    pub judgement: Judgement,
    stacks: u64,
    live_bytes: u64,
}

/// For programs. Counts are of samples where blocks are sampled.
#[derive(Serialize)]
pub(super) struct Entry {
    verdict: &'static str,
    evidence: String,
    bytes_per_minute: u64,
    span_s: f64,
    old_age_s: f64,
    old_allocated: u64,
    old_live: u64,
    late_s: f64,
    late_allocated: u64,
    late_freed: u64,
}

impl Entry {
    pub fn new(judgement: &Judgement, is_sampled: bool) -> Self {
        Self {
            verdict: judgement.verdict.name(),
            evidence: evidence(judgement, is_sampled),
            bytes_per_minute: judgement.bytes_per_minute,
            span_s: in_seconds(judgement.span_ns),
            old_age_s: in_seconds(judgement.old_age_ns),
            old_allocated: judgement.old_allocated,
            old_live: judgement.old_live,
            late_s: in_seconds(judgement.late_ns),
            late_allocated: judgement.late_allocated,
            late_freed: judgement.late_freed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgement(verdict: Verdict, reason: Reason) -> Judgement {
        Judgement {
            verdict,
            reason,
            span_ns: 57_500_000_000,
            old_age_ns: 19_100_000_000,
            old_allocated: 1_950,
            old_live: 487,
            live: 700,
            allocated: 3_000,
            freed: 2_300,
            late_ns: 19_100_000_000,
            late_allocated: 950,
            late_freed: 812,
            oldest_ns: 57_500_000_000,
            bytes_per_minute: 1_258_291,
            knows_frees: true,
        }
    }

    #[test]
    fn each_verdict_has_its_evidence() {
        let nothing = Judgement {
            freed: 0,
            ..judgement(Verdict::WarmingUp, Reason::TooEarly { needed_ns: 37_200_000_000 })
        };
        let lines = [
            judgement(Verdict::LeakLike, Reason::NothingFreed),
            judgement(Verdict::LeakLike, Reason::NoneOfTheOldFreed),
            judgement(Verdict::LeakLike, Reason::LargerAndLarger),
            nothing,
            judgement(Verdict::WarmingUp, Reason::TooEarly { needed_ns: 1 }),
            judgement(
                Verdict::WarmingUp,
                Reason::JustBegun { age_ns: 2_500_000_000, needed_ns: 17_500_000_000 },
            ),
            judgement(Verdict::WarmingUp, Reason::Slowing { percent: 61 }),
            judgement(Verdict::WarmingUp, Reason::OldFreed),
            judgement(Verdict::CacheLike, Reason::Balanced),
            judgement(Verdict::PoolLike, Reason::Stopped),
            judgement(Verdict::Steady, Reason::Stopped),
            judgement(Verdict::Steady, Reason::NoGrowth),
        ];
        insta::assert_snapshot!(lines.map(|line| in_words(&line, false)).join("\n"));
    }

    #[test]
    fn what_is_not_known_to_be_freed_is_not_said_to_be() {
        let leak =
            Judgement { knows_frees: false, ..judgement(Verdict::LeakLike, Reason::NoneOfTheOldFreed) };
        assert_eq!(
            in_words(&leak, true),
            "LEAK-LIKE: up to 487 of 1,950 samples from 20 s ago and before (25.0%) are not known to be over, and age makes no \
             difference; grows up to 1.2 MiB/min (±9%)"
        );
    }
}
