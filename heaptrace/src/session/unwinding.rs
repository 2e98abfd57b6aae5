//! Unwind tables of the traced processes: makes each file's once, keeps it while a process has the file mapped,
//! and tells the kernel side which are where.

use crate::{
    bpf::{UnwindArrays, UnwindMaps},
    process::{
        maps::Mapping,
        object::{FileStamp, Object},
    },
    unwind::{
        FileKey, Store, build, build_vdso,
        store::{Epoch, Resident},
    },
};
use heaptrace_common::unwind::UnwindMapping;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a walk can take at the very most, preempted.
const LONGEST_WALK: Duration = Duration::from_secs(1);

/// See the module.
pub struct Unwinding {
    store: Store<UnwindArrays>,
    /// What each process record uses.
    users: HashMap<u32, Users>,
    /// Files that have no table, or for whose table there was no room.
    without: HashSet<FileStamp>,
    sealed: VecDeque<(Epoch, Instant)>,
}

struct Users {
    files: Vec<FileKey>,
    mappings: Vec<UnwindMapping>,
}

impl Unwinding {
    /// `None` if the arrays are too small for anything.
    pub fn new(arrays: UnwindArrays) -> Option<Self> {
        let store = Store::new(arrays).ok()?;
        Some(Self { store, users: HashMap::new(), without: HashSet::new(), sealed: VecDeque::new() })
    }

    /// Puts tables in force for a process record with `mappings`, whose ELF files are `objects`.
    pub fn publish(
        &mut self,
        maps: &mut UnwindMaps,
        record: u32,
        mappings: &[Mapping],
        objects: &[Arc<Object>],
    ) {
        let code = mappings.iter().filter(|mapping| {
            mapping.permissions.execute && mapping.path.as_deref() != Some(Path::new("[uprobes]"))
        });
        let mut files = Vec::new();
        let mut published = Vec::new();
        for mapping in code {
            let object = objects.iter().find(|object| mapping.file() == Some(object.path.as_path()));
            let bare = UnwindMapping { start: mapping.start, end: mapping.end, ..UnwindMapping::UNUSED };
            published.push(match object {
                Some(object) => self.of_file(object, mapping, &mut files).unwrap_or(bare),
                None if mapping.path.as_deref() == Some(Path::new("[vdso]")) => {
                    self.of_vdso(mapping, &mut files).unwrap_or(bare)
                }
                None => bare,
            });
        }
        if self.users.get(&record).is_none_or(|users| users.mappings != published) {
            self.put(maps, record, Users { files, mappings: published });
        } else {
            self.release(files);
        }
    }

    /// A fork: the child has its parent's mappings.
    pub fn inherit(&mut self, maps: &mut UnwindMaps, child: u32, parent: u32) {
        let Some(users) = self.users.get(&parent) else { return };
        let (files, mappings) = (users.files.clone(), users.mappings.clone());
        for file in &files {
            // They are resident, as the parent has them.
            let _ = self.store.acquire(file);
        }
        self.put(maps, child, Users { files, mappings });
    }

    /// The process record has ended.
    pub fn forget(&mut self, maps: &mut UnwindMaps, record: u32) {
        maps.forget(record);
        if let Some(users) = self.users.remove(&record) {
            self.release(users.files);
        }
    }

    fn put(&mut self, maps: &mut UnwindMaps, record: u32, users: Users) {
        // What found no room is counted there.
        if maps.publish(record, &users.mappings).is_err() {
            self.release(users.files);
        } else if let Some(before) = self.users.insert(record, users) {
            self.release(before.files);
        }
    }

    fn release(&mut self, files: Vec<FileKey>) {
        for file in &files {
            self.store.release(file);
        }
        let now = Instant::now();
        self.sealed.push_back((self.store.seal(), now));
        while let Some((epoch, _)) = self.sealed.front().filter(|(_, when)| now - *when > LONGEST_WALK) {
            self.store.reclaim(*epoch);
            self.sealed.pop_front();
        }
    }

    fn of_file(
        &mut self,
        object: &Object,
        mapping: &Mapping,
        files: &mut Vec<FileKey>,
    ) -> Option<UnwindMapping> {
        let key = FileKey::File(object.stamp);
        let resident = self.resident(key, files, |unwinding| {
            if unwinding.without.contains(&object.stamp) {
                return None;
            }
            let resident =
                build(object, None).ok().and_then(|table| unwinding.store.insert(key, &table).ok());
            if resident.is_none() {
                unwinding.without.insert(object.stamp);
            }
            resident
        })?;
        let page = crate::process::procfs::page_size();
        let load = object.elf.loads.iter().find(|load| {
            load.executable && (load.offset / page * page..load.offset + load.size).contains(&mapping.offset)
        })?;
        let address = load.address.wrapping_sub(load.offset).wrapping_add(mapping.offset);
        Some(resident.mapping(mapping.start, mapping.end, mapping.start.wrapping_sub(address)))
    }

    fn of_vdso(&mut self, mapping: &Mapping, files: &mut Vec<FileKey>) -> Option<UnwindMapping> {
        let resident = self.resident(FileKey::Vdso, files, |unwinding| {
            build_vdso().ok().and_then(|table| unwinding.store.insert(FileKey::Vdso, &table).ok())
        })?;
        Some(resident.mapping(mapping.start, mapping.end, mapping.start))
    }

    /// Where the table of `key` is; `insert` puts it there.
    fn resident(
        &mut self,
        key: FileKey,
        files: &mut Vec<FileKey>,
        insert: impl FnOnce(&mut Self) -> Option<Resident>,
    ) -> Option<Resident> {
        if files.contains(&key) {
            return self.store.get(&key);
        }
        let resident = match self.store.acquire(&key) {
            Some(resident) => resident,
            None => insert(self)?,
        };
        files.push(key);
        Some(resident)
    }
}
