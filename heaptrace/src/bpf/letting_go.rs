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
    checks::FunctionCheck,
    gates::Gate,
    multi::{MultiLink, MultiProgram},
    site::PlacedSite,
};
use crate::process::object::{FileId, Object};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
    vec::IntoIter,
};

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

/// What stays until a link is gone.
pub(super) struct Kept {
    pub _gate: Option<Arc<Gate>>,
    pub _check: Option<Arc<FunctionCheck>>,
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
}

/// Whether all processes that map a file have its code at these offsets, which are in order, as the file has it.
pub type IsTheSame<'a> = &'a dyn Fn(&Object, &[u64]) -> bool;

/// Links that are on their way.
pub struct Removal {
    threads: Vec<JoinHandle<Instant>>,
    /// Those that no thread has taken yet.
    left: Arc<Mutex<IntoIter<Box<dyn Send>>>>,
    /// These go last.
    for_all: Vec<MultiLink>,
}

impl Removal {
    /// Begins to take `links` away, each before what is kept for it, and `others`, on many threads, the first ones first: the
    /// kernel waits for a grace period at each link, and those overlap.
    pub(super) fn begin(
        links: Vec<(Held, Kept)>,
        others: Vec<Box<dyn Send>>,
        is_the_same: IsTheSame<'_>,
    ) -> Self {
        const THREADS: usize = 64;
        let for_all = links_for_all(&links, is_the_same);
        let links = links.into_iter().map(|(held, kept)| Box::new((held.link, kept)) as Box<dyn Send>);
        let links: Vec<_> = links.chain(others).collect();
        let threads = links.len().min(THREADS);
        let left = Arc::new(Mutex::new(links.into_iter()));
        // As many as there may be: the rest is done by who waits.
        let start = |_| {
            let left = Arc::clone(&left);
            thread::Builder::new().spawn(move || drop_all(&left)).ok()
        };
        Self { threads: (0..threads).map_while(start).collect(), left, for_all }
    }

    /// Waits until they are gone; gives when the last one was.
    pub fn wait(self) -> Option<Instant> {
        let Self { threads, left, for_all } = self;
        let here = threads.is_empty().then(|| drop_all(&left));
        // A panic there has left nothing that anything depends on.
        let last = threads.into_iter().filter_map(|thread| thread.join().ok()).chain(here).max();
        if for_all.is_empty() {
            return last;
        }
        drop(for_all);
        Some(Instant::now())
    }
}

/// Drops one after the other; gives when there was none left.
fn drop_all(left: &Mutex<IntoIter<Box<dyn Send>>>) -> Instant {
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    while let Some(link) = next() {
        drop(link);
    }
    Instant::now()
}

/// For each file that many of `links` are in, one for all processes at their sites. Where it can't be made, they go without.
fn links_for_all(links: &[(Held, Kept)], is_the_same: IsTheSame<'_>) -> Vec<MultiLink> {
    let mut files: HashMap<FileId, Vec<&Place>> = HashMap::new();
    for place in links.iter().filter_map(|(held, _)| held.place.as_ref()) {
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
