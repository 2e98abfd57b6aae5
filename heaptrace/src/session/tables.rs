//! Unwind tables for the traced processes: built in the background, placed in the BPF maps, and put in force for
//! each process whose code they are of.

use super::Session;
use crate::{
    bpf::{PublishError, UnwindArrays, UnwindMaps},
    drain::Code,
    process::object::Object,
    unwind::{
        self, Cache, FileKey, FileTable, Store,
        store::{Epoch, TooSmall},
    },
};
use heaptrace_common::unwind::{NO_TABLE, UnwindMapping};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};
use tokio::sync::Notify;

/// The most that tables on disk take together.
const CACHE_BYTES: u64 = 256 << 20;

/// A file whose table is asked for; `None` is the vDSO.
type Request = (FileKey, Option<Arc<Object>>);

type Built = (FileKey, Result<FileTable, unwind::BuildError>);

/// See the module.
pub struct Unwinding {
    store: Store<UnwindArrays>,
    /// Of each process record, what it uses.
    used: HashMap<u32, HashSet<FileKey>>,
    /// Asked for and not built yet.
    building: HashSet<FileKey>,
    /// Without a table for good: no usable `.eh_frame`, or no room.
    failed: HashSet<FileKey>,
    failures: BTreeSet<String>,
    /// Records that wait for a table.
    waiting: HashMap<FileKey, BTreeSet<u32>>,
    requests: Sender<Request>,
    built: Receiver<Built>,
    ready: Arc<Notify>,
    sealed: Option<Epoch>,
}

impl Unwinding {
    /// Starts the thread that builds tables; it ends with this.
    pub fn start(memory: UnwindArrays) -> Result<Self, TooSmall> {
        let (requests, requested) = channel::<Request>();
        let (finished, built) = channel();
        let ready = Arc::new(Notify::new());
        let notify = Arc::clone(&ready);
        thread::spawn(move || {
            let cache = cache_directory().and_then(|directory| Cache::open(&directory, CACHE_BYTES).ok());
            while let Ok((key, object)) = requested.recv() {
                let table = match &object {
                    Some(object) => unwind::build(object, cache.as_ref()),
                    None => unwind::build_vdso(),
                };
                if finished.send((key, table)).is_err() {
                    return;
                }
                notify.notify_one();
            }
        });
        Ok(Self {
            store: Store::new(memory)?,
            used: HashMap::new(),
            building: HashSet::new(),
            failed: HashSet::new(),
            failures: BTreeSet::new(),
            waiting: HashMap::new(),
            requests,
            built,
            ready,
            sealed: None,
        })
    }

    /// Told whenever a table has been built; then call [`Session::take_tables`].
    pub fn ready(&self) -> Arc<Notify> {
        Arc::clone(&self.ready)
    }

    /// Asks for a file's table ahead of the process that will map it.
    pub fn prepare(&mut self, object: &Arc<Object>) {
        self.want(FileKey::File(object.stamp), Some(Arc::clone(object)));
    }

    fn want(&mut self, key: FileKey, object: Option<Arc<Object>>) {
        let known = self.store.get(&key).is_some() || self.failed.contains(&key);
        if !known && self.building.insert(key) && self.requests.send((key, object)).is_err() {
            self.building.remove(&key);
        }
    }

    /// Puts in force what there is for the code of a record, and asks for what is missing.
    fn publish(&mut self, maps: &mut UnwindMaps, record: u32, code: &[Code]) {
        let mut keys = HashSet::new();
        let mut mappings = Vec::with_capacity(code.len());
        for Code { start, end, bias, file } in code {
            let mut mapping =
                UnwindMapping { start: *start, end: *end, bias: *bias, first_page: 0, pages_at: NO_TABLE };
            if let Some((key, object)) = file {
                if let Some(resident) = self.store.get(key) {
                    keys.insert(*key);
                    mapping = resident.mapping(*start, *end, *bias);
                } else {
                    self.want(*key, object.clone());
                    self.waiting.entry(*key).or_default().insert(record);
                }
            }
            mappings.push(mapping);
        }
        let before = self.used.remove(&record).unwrap_or_default();
        for key in keys.difference(&before) {
            self.store.acquire(key);
        }
        match maps.publish(record, &mappings) {
            Ok(()) => {
                for key in before.difference(&keys) {
                    self.store.release(key);
                }
                self.used.insert(record, keys);
            }
            Err(error @ (PublishError::NoList | PublishError::NoRecord(_))) => {
                // What was in force stays so, and what it uses with it.
                for key in keys.difference(&before) {
                    self.store.release(key);
                }
                self.used.insert(record, before);
                self.failures
                    .insert(format!("some processes' stacks were walked by frame pointers: {error}"));
            }
        }
    }

    /// The record's process ended.
    pub fn forget(&mut self, maps: &mut UnwindMaps, record: u32) {
        maps.forget(record);
        for key in self.used.remove(&record).unwrap_or_default() {
            self.store.release(&key);
        }
        for records in self.waiting.values_mut() {
            records.remove(&record);
        }
    }

    /// Places a table that was built. Gives the records that wait for it.
    fn place(&mut self, (key, table): Built) -> BTreeSet<u32> {
        self.building.remove(&key);
        let placed = match table {
            Ok(table) => match self.store.insert(key, &table) {
                Ok(_) => Ok(()),
                Err(_) => {
                    self.give_back();
                    self.store.insert(key, &table).map(drop).map_err(|full| full.to_string())
                }
            },
            Err(error) => Err(chain(&error)),
        };
        match placed {
            Ok(()) => {
                // No process uses it yet; until one does, it may be given back when room is short.
                self.store.release(&key);
            }
            Err(why) => {
                self.failed.insert(key);
                self.failures.insert(why);
            }
        }
        self.waiting.remove(&key).unwrap_or_default()
    }

    /// Gives back tables that nobody has used since the last time, so that no walk can still be in them.
    fn give_back(&mut self) {
        let sealed = self.store.seal();
        if let Some(earlier) = self.sealed.replace(sealed) {
            self.store.reclaim(earlier);
        }
    }

    /// Sentences for the report: what has no table, and what found no room.
    pub fn notes(&self, maps: &UnwindMaps) -> Vec<String> {
        let mut notes: Vec<String> = self.failures.iter().take(8).cloned().collect();
        if self.failures.len() > notes.len() {
            notes.push(format!("{} more files without unwind tables", self.failures.len() - notes.len()));
        }
        let mappings = maps.losses().mappings;
        if mappings > 0 {
            notes.push(format!(
                "{mappings} code mappings beyond those a process can have were walked without tables"
            ));
        }
        notes
    }
}

impl Session {
    /// Puts the tables of a record in force as its code is now.
    pub(super) fn publish_code(&mut self, record: u32) {
        if let Some(unwinding) = &mut self.unwinding {
            unwinding.publish(&mut self.tracer.unwind, record, &self.builder.code(record));
        }
    }

    /// The record's image is gone.
    pub(super) fn forget_code(&mut self, record: u32) {
        if let Some(unwinding) = &mut self.unwinding {
            unwinding.forget(&mut self.tracer.unwind, record);
        }
    }

    /// Takes the tables that have been built.
    pub fn take_tables(&mut self) {
        let mut records = BTreeSet::new();
        if let Some(unwinding) = &mut self.unwinding {
            while let Ok(built) = unwinding.built.try_recv() {
                records.extend(unwinding.place(built));
            }
        }
        for record in records {
            self.publish_code(record);
        }
    }

    /// Waits until all tables that were asked for are there: a process that is traced from here on has whole
    /// stacks from its first one.
    pub(super) fn wait_for_tables(&mut self) {
        let mut records = BTreeSet::new();
        if let Some(unwinding) = &mut self.unwinding {
            while !unwinding.building.is_empty() {
                let Ok(built) = unwinding.built.recv() else { break };
                records.extend(unwinding.place(built));
            }
        }
        for record in records {
            self.publish_code(record);
        }
    }
}

fn cache_directory() -> Option<PathBuf> {
    let of_user = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(of_user)?;
    let base = base.is_absolute().then_some(base)?;
    // The cache makes its own folder only.
    std::fs::create_dir_all(&base).ok()?;
    Some(base.join("heaptrace"))
}

/// The error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
