//! Which code belongs to a function that is analysed: its own, what only it can reach, and what it shares with others.

use super::answer::NoCut;
use super::frames;
use super::image::Image;
use super::landing_pads::CallSite;
use super::references::{References, Source};
use std::ops::Range;

/// The most functions that a graph reaches into.
const MAX_PARTS: usize = 24;

/// A function, or a part of one that lies elsewhere.
pub struct Part {
    pub range: Range<u64>,
    /// Parts of one group can only be reached through the group's entry. Group 0 is the analysed function.
    pub group: usize,
    /// Where its unwind information is.
    pub span: frames::Span,
    /// `None` where they cannot be read.
    pub call_sites: Option<Vec<CallSite>>,
}

/// The parts that were reached so far.
pub struct Parts<'a, 'data> {
    image: &'a Image<'data>,
    references: Option<&'a References>,
    pub all: Vec<Part>,
    /// By group.
    pub entries: Vec<u64>,
}

impl<'a, 'data> Parts<'a, 'data> {
    /// With the function that begins at `entry`.
    pub fn new(image: &'a Image<'data>, entry: u64) -> Result<Self, NoCut> {
        let mut parts = Self { image, references: image.references(), all: Vec::new(), entries: vec![entry] };
        let span = *image.function(entry).ok_or(NoCut::NoFunction(entry))?;
        if span.start != entry {
            return Err(NoCut::NoEntry(entry));
        }
        parts.add(span, 0)?;
        Ok(parts)
    }

    fn add(&mut self, span: frames::Span, group: usize) -> Result<usize, NoCut> {
        if self.all.len() >= MAX_PARTS {
            return Err(NoCut::TooLarge);
        }
        let call_sites = frames::call_sites(&span, |address| self.image.memory.bytes(address));
        self.all.push(Part { range: span.start..span.end, group, span, call_sites });
        Ok(self.all.len() - 1)
    }

    pub fn index_of(&self, address: u64) -> Option<usize> {
        self.all.iter().position(|part| part.range.contains(&address))
    }

    /// The part that a jump from `from` to `target` leads to.
    pub fn enter(&mut self, from: usize, target: u64) -> Result<usize, NoCut> {
        let group = self.all[from].group;
        let known = match self.index_of(target) {
            Some(known) => known,
            None => {
                let span = *self.image.function(target).ok_or(NoCut::NoFunction(target))?;
                let group = if self.is_exclusive(&span, group) {
                    group
                } else {
                    self.entries.push(span.start);
                    self.entries.len() - 1
                };
                self.add(span, group)?
            }
        };
        let to = self.all[known].group;
        if to == group || self.entries[to] == target { Ok(known) } else { Err(NoCut::Reached(target)) }
    }

    /// Whether only the parts of a group lead into `span`.
    fn is_exclusive(&self, span: &frames::Span, group: usize) -> bool {
        let Some(references) = self.references else { return false };
        let is_own = |address: &u64| {
            (span.start..span.end).contains(address)
                || self.all.iter().any(|part| part.group == group && part.range.contains(address))
        };
        !self.image.is_exported(span.start)
            && references
                .into(span.start..span.end)
                .iter()
                .all(|(_, source)| matches!(source, Source::Branch(address) if is_own(address)))
    }

    /// Refuses code that others lead into but by its entry, or that the kernel may restart.
    pub fn check(&self) -> Result<(), NoCut> {
        let references = self.references.ok_or(NoCut::TooMuchCode)?;
        for part in &self.all {
            let may_come = |target: u64, source: &Source| match source {
                _ if target == self.entries[part.group] => true,
                Source::Branch(from) => {
                    self.all.iter().any(|other| other.group == part.group && other.range.contains(from))
                }
                Source::Pointer => false,
            };
            for (target, source) in references.into(part.range.clone()) {
                if !may_come(*target, source) {
                    return Err(NoCut::Reached(*target));
                }
            }
            let overlaps = |range: &Range<u64>| range.start < part.range.end && part.range.start < range.end;
            let restarts = self.image.restartable.iter();
            if let Some((range, _)) =
                restarts.clone().find(|(range, to)| overlaps(range) || part.range.contains(to))
            {
                return Err(NoCut::Restartable(range.start));
            }
        }
        Ok(())
    }
}
