//! Unwind tables for the traced processes: built in the background, placed in the BPF maps, and put in force for
//! each process whose code they are of.

use super::{
    known_files::KnownFiles,
    table_builder::{Built, Request, build_tables},
};
use crate::{
    bpf::{UnwindArrays, UnwindMaps},
    drain::Code,
    model::{Note, Notes},
    process::object::Object,
    unwind::{FileKey, RowKind, Store, TableKey, store::TooSmall},
};
use heaptrace_common::unwind::{NO_TABLE, UnwindMapping};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};
use tokio::sync::Notify;

/// See the module.
pub struct Unwinding {
    store: Store<UnwindArrays>,
    /// Of each process record, what it uses.
    used: HashMap<u32, HashSet<TableKey>>,
    /// Asked for and not built yet.
    pub(super) building: HashSet<TableKey>,
    /// Without a table for good: no usable `.eh_frame`.
    failed: HashSet<TableKey>,
    /// Without a table until one is retired: there was no room.
    no_room: HashSet<TableKey>,
    /// Records without lists of their own: there was none.
    pub(super) listless: BTreeSet<u32>,
    failures: Notes,
    /// Records that wait for a table.
    waiting: HashMap<TableKey, BTreeSet<u32>>,
    known: KnownFiles,
    exact: ExactRows,
    requests: Sender<Request>,
    pub(super) built: Receiver<Built>,
    ready: Arc<Notify>,
    pub(super) preloading: bool,
}

const NO_LISTS: &str =
    "some processes' stacks were walked by frame pointers: all lists of mappings are in use";

/// Of which files exact rows are wanted: they take many times the room of those at calls.
pub enum ExactRows {
    /// Of all: page faults are at any instruction.
    All,
    /// Of those in which a walk met an interrupted frame.
    Met(HashSet<FileKey>),
}

impl ExactRows {
    fn wanted(&self, file: &FileKey) -> bool {
        match self {
            Self::All => true,
            Self::Met(files) => files.contains(file),
        }
    }
}

impl Unwinding {
    /// Starts the thread that builds tables; it ends with this. With `hurry` it asks for the processor before others,
    /// as what maps a library calls it within a millisecond; without the privilege nothing changes.
    pub fn start(memory: UnwindArrays, exact: ExactRows, hurry: bool) -> Result<Self, TooSmall> {
        let (requests, requested) = channel::<Request>();
        let (finished, built) = channel();
        let ready = Arc::new(Notify::new());
        let notify = Arc::clone(&ready);
        thread::spawn(move || {
            if hurry {
                // SAFETY: no pointers; 0 is this thread (setpriority(2), "C library/kernel differences").
                unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
            }
            build_tables(&requested, &|message| {
                let sent = finished.send(message).is_ok();
                notify.notify_one();
                sent
            });
        });
        Ok(Self {
            store: Store::new(memory)?,
            used: HashMap::new(),
            building: HashSet::new(),
            failed: HashSet::new(),
            no_room: HashSet::new(),
            listless: BTreeSet::new(),
            failures: Notes::default(),
            waiting: HashMap::new(),
            known: KnownFiles::default(),
            exact,
            requests,
            built,
            ready,
            preloading: true,
        })
    }

    /// Told whenever a table has been built; then call [`Session::take_tables`].
    pub fn ready(&self) -> Arc<Notify> {
        Arc::clone(&self.ready)
    }

    /// Asks for the tables of a program and its libraries ahead of the process that will map them.
    pub fn prepare(&mut self, objects: &[Arc<Object>]) {
        self.known.pair(objects.iter());
        for object in objects {
            let file = FileKey::File(object.stamp);
            self.want(TableKey { file, rows: RowKind::Calls }, Some(object));
            if self.exact.wanted(&file) {
                self.want(TableKey { file, rows: RowKind::Exact }, Some(object));
            }
        }
    }

    fn want(&mut self, key: TableKey, object: Option<&Arc<Object>>) {
        let hopeless = self.failed.contains(&key) || self.no_room.contains(&key);
        let known = hopeless || self.store.get(&key).is_some();
        if !known && self.building.insert(key) && self.requests.send((key, object.cloned())).is_err() {
            self.building.remove(&key);
        }
    }

    /// From now on exact rows of a file are wanted, too. Says whether they were not before.
    pub(super) fn want_exact(&mut self, file: FileKey) -> bool {
        match &mut self.exact {
            ExactRows::All => false,
            ExactRows::Met(files) => files.insert(file),
        }
    }

    /// Records that use a table of `file`.
    pub(super) fn users(&self, file: FileKey) -> Vec<u32> {
        let uses = |keys: &HashSet<TableKey>| keys.iter().any(|key| key.file == file);
        self.used.iter().filter(|(_, keys)| uses(keys)).map(|(record, _)| *record).collect()
    }

    /// Puts in force what there is for the code of a record, and asks for what is missing.
    pub(super) fn publish(&mut self, maps: &mut UnwindMaps, record: u32, code: &[Code]) {
        self.known.pair(code.iter().filter_map(Code::object));
        let mut keys = HashSet::new();
        let calls = self.mappings(record, code, RowKind::Calls, &mut keys);
        let calls_only = keys.len();
        let exact = self.mappings(record, code, RowKind::Exact, &mut keys);
        let exact = (keys.len() > calls_only).then_some(exact.as_slice());
        let before = self.used.remove(&record).unwrap_or_default();
        for key in keys.difference(&before) {
            self.store.acquire(key);
        }
        let published = maps.publish(record, &calls, exact);
        if published.is_err() {
            // Rather none than one that is out of date.
            maps.forget(record);
            keys = self.release(keys.iter().chain(before.difference(&keys)));
            self.listless.insert(record);
            self.failures.take(Note::NoUnwindTable { reason: NO_LISTS.to_owned() });
        } else {
            self.release(before.difference(&keys));
            self.listless.remove(&record);
        }
        self.used.insert(record, keys);
        for code in code {
            let Some(object) = code.object() else { continue };
            let key = TableKey { file: FileKey::File(object.stamp), rows: RowKind::Calls };
            if let Some(resident) = self.store.get(&key) {
                self.known.tell(maps, object, resident.place);
            }
        }
    }

    /// Gives up uses of tables. What remains in use: nothing.
    fn release<'a>(&mut self, keys: impl Iterator<Item = &'a TableKey>) -> HashSet<TableKey> {
        for key in keys {
            if self.store.release(key) == Some(true) {
                // There is room to be had.
                self.no_room.clear();
            }
        }
        HashSet::new()
    }

    /// A record's mappings with the tables of one kind that are there; their keys are added to `keys`.
    fn mappings(
        &mut self,
        record: u32,
        code: &[Code],
        rows: RowKind,
        keys: &mut HashSet<TableKey>,
    ) -> Vec<UnwindMapping> {
        let mut mappings = Vec::with_capacity(code.len());
        for Code { start, end, bias, file } in code {
            let (start, end, bias) = (*start, *end, *bias);
            let mut mapping = UnwindMapping { start, end, bias, first_page: 0, pages_at: NO_TABLE };
            if let Some((file, object)) = file
                && (rows == RowKind::Calls || self.exact.wanted(file))
            {
                let key = TableKey { file: *file, rows };
                if let Some(resident) = self.store.get(&key) {
                    keys.insert(key);
                    mapping = resident.place.mapping(start, end, bias);
                } else {
                    self.want(key, object.as_ref());
                    self.waiting.entry(key).or_default().insert(record);
                }
            }
            mappings.push(mapping);
        }
        mappings
    }

    /// The record's process ended.
    pub fn forget(&mut self, maps: &mut UnwindMaps, record: u32) {
        maps.forget(record);
        let keys = self.used.remove(&record).unwrap_or_default();
        self.release(keys.iter());
        self.listless.remove(&record);
        for records in self.waiting.values_mut() {
            records.remove(&record);
        }
    }

    /// Places a table that was built. Gives the records that wait for it.
    pub(super) fn place(&mut self, maps: &mut UnwindMaps, built: Built) -> BTreeSet<u32> {
        let ((key, object), table) = match built {
            Built::Table(request, table) => (request, table),
            Built::Preloaded => {
                self.preloading = false;
                return BTreeSet::new();
            }
        };
        let asked_for = self.building.remove(&key);
        // Room is for those that are asked for.
        if !asked_for && (self.store.get(&key).is_some() || self.store.usage().is_half_full()) {
            return BTreeSet::new();
        }
        match table {
            Ok(table) => {
                let placed = self.store.insert(key, &table).or_else(|_| {
                    self.give_back(maps);
                    self.store.insert(key, &table)
                });
                match placed {
                    Ok(resident) => {
                        // No process uses it yet; until one does, it may be given back when room is short.
                        self.store.release(&key);
                        if let (RowKind::Calls, Some(object)) = (key.rows, &object) {
                            self.known.tell(maps, object, resident.place);
                        }
                    }
                    Err(full) => {
                        self.no_room.insert(key);
                        self.failures.take(Note::NoUnwindTable { reason: full.to_string() });
                    }
                }
            }
            Err(error) => {
                self.failed.insert(key);
                self.failures.take(Note::NoUnwindTable { reason: chain(&error) });
            }
        }
        self.waiting.remove(&key).unwrap_or_default()
    }

    /// Gives back the room of tables that nobody uses.
    fn give_back(&mut self, maps: &mut UnwindMaps) {
        for key in self.store.retired().filter(|key| key.rows == RowKind::Calls) {
            self.known.forget(maps, &key.file);
        }
        // The BPF side may have put some in force on its own.
        self.store.reclaim(&maps.pages_in_use());
    }

    /// What has no table, or found no room.
    pub fn failures(&self) -> &Notes {
        &self.failures
    }
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
