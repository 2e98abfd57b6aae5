//! Letting go of many probes.
//!
//! As a link is let go of, the kernel visits, for each of its sites, every process that maps the file, and asks the links that
//! have a probe there, one by one, whether they want it in that process (`register_for_each_vma`, `filter_chain`,
//! kernel/events/uprobes.c): with a link for each process, that is cubic in their number, under a lock that every fork on the
//! machine waits for. It asks the youngest first. So a link for all that map the file, made just before, answers for
//! all; its own end then takes the probes away. What others pay: for that long, a trap that does nothing where they call a
//! function that is probed. It is not made where a process has other code there than the file has: the kernel would put the
//! file's byte back.

use super::{
    going::Going,
    multi::{MultiLink, MultiProgram},
    site::PlacedSite,
};
use crate::process::object::{FileId, Object};
use std::{collections::HashMap, sync::Arc, time::Instant};

/// From as many links in one file on one for all is made first. With 64, the kernel takes some 0.2 s without.
const MANY: usize = 64;

/// A link, and where it is.
pub(super) struct Held {
    link: MultiLink,
    place: Option<Place>,
}

/// Sites in a file that are probed in one process.
struct Place {
    file: Arc<Object>,
    sites: Arc<[PlacedSite]>,
}

impl Held {
    /// `pid`: the one process that it is for.
    pub fn new(link: MultiLink, file: &Arc<Object>, sites: &[PlacedSite], pid: Option<u32>) -> Self {
        // A semaphore would be raised in every process.
        let is_plain = sites.iter().all(|site| site.semaphore == 0);
        let place =
            (pid.is_some() && is_plain).then(|| Place { file: Arc::clone(file), sites: sites.into() });
        Self { link, place }
    }

    /// To be taken away before what is `kept` for it.
    pub fn leaving(self, kept: impl Send + 'static) -> Leaving {
        // Fields go in their order.
        Leaving { link: Box::new((self.link, kept)), place: self.place }
    }
}

/// What is to be taken away, and where it is if it may be one of many.
pub(super) struct Leaving {
    link: Box<dyn Send>,
    place: Option<Place>,
}

impl From<Box<dyn Send>> for Leaving {
    fn from(link: Box<dyn Send>) -> Self {
        Self { link, place: None }
    }
}

/// Whether all processes that map a file have its code at these offsets, which are in order, as the file has it.
pub type IsTheSame<'a> = &'a dyn Fn(&Object, &[u64]) -> bool;

/// Links that are on their way.
pub struct Removal {
    going: Going,
    /// These go last.
    for_all: Vec<MultiLink>,
}

impl Removal {
    /// Begins to take `links` away, the first ones first.
    pub(super) fn begin(links: Vec<Leaving>, is_the_same: IsTheSame<'_>) -> Self {
        let for_all = links_for_all(&links, is_the_same);
        let mut going = Going::default();
        going.add(links.into_iter().map(|leaving| leaving.link).collect());
        going.hurry();
        Self { going, for_all }
    }

    /// Waits until they are gone; gives when the last one was.
    pub fn wait(mut self) -> Option<Instant> {
        let last = self.going.wait();
        if self.for_all.is_empty() {
            return last;
        }
        drop(self.for_all);
        Some(Instant::now())
    }
}

/// For each file that many of `links` are in, one for all processes at their sites. Where it can't be made, they go without.
fn links_for_all(links: &[Leaving], is_the_same: IsTheSame<'_>) -> Vec<MultiLink> {
    let mut files: HashMap<FileId, Vec<&Place>> = HashMap::new();
    for place in links.iter().filter_map(|leaving| leaving.place.as_ref()) {
        files.entry(place.file.id()).or_default().push(place);
    }
    files.retain(|_, places| places.len() >= MANY);
    if files.is_empty() {
        return Vec::new();
    }
    let Ok(empty) = MultiProgram::empty() else { return Vec::new() };
    let of_file = |places: Vec<&Place>| {
        let mut sites: Vec<PlacedSite> =
            places.iter().flat_map(|place| place.sites.iter().copied()).collect();
        sites.sort_unstable_by_key(|site| site.offset);
        sites.dedup_by_key(|site| site.offset);
        let offsets: Vec<u64> = sites.iter().map(|site| site.offset).collect();
        let file = &places.first()?.file;
        if !is_the_same(file, &offsets) {
            return None;
        }
        empty.attach(&file.attach_path(), &sites, None).ok()
    };
    files.into_values().filter_map(of_file).collect()
}
