//! The thread that builds unwind tables, or takes them from the disk.

use crate::{
    probes::own_samples::OwnSamples,
    process::object::{Object, Opened},
    unwind::{self, Cache, FileKey, FileTable, RowKind, TableKey},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
};

/// The most that is kept on disk.
const CACHE_BYTES: u64 = 256 << 20;

/// A table that is asked for; without an object it is the vDSO's.
pub type Request = (TableKey, Option<Arc<Object>>);

/// What the building thread sends.
pub enum Built {
    Table(Request, Result<Box<FileTable>, unwind::BuildError>),
    /// All of [`PRELOADED`] were sent.
    Preloaded,
}

/// Tables that are taken from the disk before anyone asks for them, those used last first: what begins to run while we
/// trace has most likely run before, and calls its libraries' constructors within a millisecond of mapping them.
const PRELOADED: usize = 512;

/// Builds what is requested, or else preloads, until nobody takes what is sent.
pub fn build_tables(requests: &Receiver<Request>, send: &dyn Fn(Built) -> bool) {
    let cache = open_cache().map(Arc::new);
    let mut preload =
        cache.as_ref().map_or_else(Vec::new, |cache| cache.paths(RowKind::Calls, PRELOADED)).into_iter();
    let mut preloading = true;
    loop {
        let request = match requests.try_recv() {
            Ok(request) => Some(request),
            Err(TryRecvError::Empty) if preloading => None,
            Err(_) => match requests.recv() {
                Ok(request) => Some(request),
                Err(_) => return,
            },
        };
        let message = match request {
            Some((key, object)) => {
                let table = match &object {
                    Some(object) => patiently(object, key.rows, cache.clone()),
                    None => unwind::build_vdso(key.rows),
                };
                Some(Built::Table((key, object), table.map(Box::new)))
            }
            None => match preload.next() {
                Some(path) => preloaded(&path, cache.as_ref()),
                None => {
                    preloading = false;
                    Some(Built::Preloaded)
                }
            },
        };
        if message.is_some_and(|message| !send(message)) {
            return;
        }
    }
}

/// The table of a file, whose file system may never answer.
fn patiently(
    object: &Arc<Object>,
    rows: RowKind,
    cache: Option<Arc<Cache>>,
) -> Result<FileTable, unwind::BuildError> {
    let read = Arc::clone(object);
    let table = object.look(move || unwind::build(&read, rows, cache.as_deref(), own_samples));
    table.unwrap_or_else(|source| {
        let file = object.path.display().to_string();
        Err(unwind::BuildError::Unread { file, source })
    })
}

/// Where its allocator tells of samples.
fn own_samples(object: &Object) -> BTreeSet<u64> {
    let own = OwnSamples::read(&object.reader(), &object.elf);
    own.addresses(&object.elf).collect()
}

/// The table on disk of the file at `path`, if it is still of that file.
fn preloaded(path: &Path, cache: Option<&Arc<Cache>>) -> Option<Built> {
    let object = Arc::new(Opened::at(path).ok()?.patiently(Object::read).ok()?.ok()?);
    let table = cache?.load(&object, RowKind::Calls)?;
    let key = TableKey { file: FileKey::File(object.stamp), rows: RowKind::Calls };
    Some(Built::Table((key, Some(object)), Ok(Box::new(table))))
}

/// What is kept of files from one session to the next.
pub fn open_cache() -> Option<Cache> {
    cache_directory().and_then(|directory| Cache::open(&directory, CACHE_BYTES).ok())
}

fn cache_directory() -> Option<PathBuf> {
    let of_user = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(of_user)?;
    Some(base.join("heaptrace"))
}
