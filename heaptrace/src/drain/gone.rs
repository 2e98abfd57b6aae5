//! Blocks of the live map that are over although no free was seen, as far as that is known. What makes one so:
//! [`super::liveness`].
//!
//! That memory is not mapped is seen in two looks, with the map between them: what is in the map and in no mapping of the
//! first may only have been allocated since, so it is looked for again. What is in neither, and is in the map still when
//! that is read later, was there while its memory was not. Nothing is removed from the map for that: its free may yet come,
//! and the kernel's side counts it.

use super::{
    ProfileBuilder,
    kernel::KernelTables,
    liveness::{Mapped, is_old_enough, overlaid},
    weighing::Weighted,
};
use crate::process::maps::Mapping;
use heaptrace_common::{
    function::Function,
    live::{self, LiveBlock, LiveKey},
    record::process_state,
};
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    io,
};

/// Blocks that lie in no mapping of a first look.
pub struct Suspects {
    by_record: HashMap<u32, Vec<(LiveKey, LiveBlock)>>,
}

impl Suspects {
    /// The records to look at again.
    pub fn records(&self) -> impl Iterator<Item = u32> + '_ {
        self.by_record.keys().copied()
    }
}

impl ProfileBuilder {
    /// Further live blocks that lie in no mapping of their record's process, as `mapped` has it since `now_ns`
    /// (`CLOCK_MONOTONIC`).
    pub fn suspects(
        &self,
        maps: &impl KernelTables,
        mapped: &HashMap<u32, Vec<Mapping>>,
        now_ns: u64,
    ) -> io::Result<Suspects> {
        let mapped: HashMap<u32, Mapped> =
            mapped.iter().map(|(record, mappings)| (*record, Mapped::new(mappings))).collect();
        let lacks = |key: &LiveKey, block: &LiveBlock| {
            mapped.get(&key.process).is_some_and(|mapped| mapped.lacks(key.address, block.size))
        };
        let by_record = self.live_until_now(maps, now_ns, lacks)?;
        Ok(Suspects { by_record })
    }

    /// Live blocks of `records` that are in the map since before `now_ns` and not known to be over, in order of address.
    pub fn blocks_of(
        &self,
        maps: &impl KernelTables,
        records: &HashSet<u32>,
        now_ns: u64,
    ) -> io::Result<HashMap<u32, Vec<(LiveKey, LiveBlock)>>> {
        let mut by_record = self.live_until_now(maps, now_ns, |key, _| records.contains(&key.process))?;
        by_record.values_mut().for_each(|blocks| blocks.sort_unstable_by_key(|(key, _)| key.address));
        Ok(by_record)
    }

    /// Those live blocks that `are_meant`, are in the map since before `now_ns` and not known to be over.
    fn live_until_now(
        &self,
        maps: &impl KernelTables,
        now_ns: u64,
        are_meant: impl Fn(&LiveKey, &LiveBlock) -> bool,
    ) -> io::Result<HashMap<u32, Vec<(LiveKey, LiveBlock)>>> {
        let mut by_record: HashMap<u32, Vec<_>> = HashMap::new();
        maps.for_each_live(|key, block| {
            if are_meant(&key, &block) && is_old_enough(&block, now_ns) && !self.gone.has_seen(&key, &block) {
                by_record.entry(key.process).or_default().push((key, block));
            }
        })?;
        Ok(by_record)
    }

    /// Keeps blocks in mind that were seen to be over.
    pub fn end_blocks(&mut self, blocks: impl IntoIterator<Item = (LiveKey, LiveBlock)>) {
        self.gone.seen_over.extend(blocks);
    }

    /// Keeps those in mind that lie in no mapping of the second look either.
    pub fn convict(&mut self, suspects: &Suspects, mapped: &HashMap<u32, Vec<Mapping>>) {
        for (record, mappings) in mapped {
            let mapped = Mapped::new(mappings);
            let of_record = suspects.by_record.get(record).into_iter().flatten();
            let gone = of_record.filter(|(key, block)| mapped.lacks(key.address, block.size));
            self.gone.seen_over.extend(gone.copied());
        }
    }

    /// Whether `mappings`, read of the process of `record`, are of its image: code of a file lies in them as it is known
    /// to. An exec makes new ones before the record of the old image ends.
    pub fn is_of_image(&self, record: u32, mappings: &[Mapping]) -> bool {
        let known = self.images.get(&record).map_or(&[][..], |image| image.mappings());
        let mut files = known.iter().filter(|code| self.is_of_file(code));
        files.any(|code| {
            mappings.iter().any(|mapping| {
                mapping.permissions.execute
                    && mapping.file().is_some()
                    && (mapping.start, mapping.end, mapping.offset) == (code.start, code.end, code.offset)
            })
        })
    }

    /// Reads the live map and finds which of its blocks are over, and of which sites they are. After
    /// [`Self::read_sites`].
    pub fn judge_blocks(&mut self, maps: &impl KernelTables) -> io::Result<()> {
        self.judge_blocks_of(maps, |_| true)
    }

    /// The same of some records only.
    pub fn judge_blocks_of(&mut self, maps: &impl KernelTables, of: impl Fn(u32) -> bool) -> io::Result<()> {
        // An exec released all of a replaced record's.
        let is_of = |process: u32| {
            let record = self.record(process);
            record.is_some_and(|record| record.state != process_state::REPLACED && of(process))
        };
        let mut blocks: Vec<Packed> = Vec::new();
        let mut seen_over: HashMap<LiveKey, LiveBlock> = HashMap::new();
        maps.for_each_live(|key, block| {
            if !is_of(key.process) {
                return;
            }
            blocks.extend(Packed::new(&key, &block));
            if !block.is_held() && self.gone.has_seen(&key, &block) {
                seen_over.insert(key, block);
            }
        })?;
        blocks.sort_unstable_by_key(|block| (block.key, Reverse(block.time_ns)));
        // Of an address that was seen twice, the newer.
        blocks.dedup_by_key(|block| block.key);
        // What was resized in its place, by a call of another allocator, still has the parts that it had.
        let resizes = |function| {
            matches!(
                function,
                Function::Realloc | Function::ReallocArray | Function::Rallocx | Function::Unknown
            )
        };
        let mut may_end: HashMap<u32, bool> = HashMap::new();
        let overlaid = overlaid(blocks.iter().map(Packed::block), |block| {
            *may_end.entry(block.site).or_insert_with(|| {
                let function = maps.site(block.site).and_then(|site| Function::from_number(site.function));
                function.is_some_and(|function| !resizes(function))
            })
        });
        // Other records' stay as they were judged.
        let others = |of: &HashMap<LiveKey, LiveBlock>| -> Vec<_> {
            of.iter().filter(|(key, _)| !is_of(key.process)).map(|(key, block)| (*key, *block)).collect()
        };
        let (other_over, other_seen) = (others(&self.gone.over), others(&self.gone.seen_over));
        let mut over: HashMap<LiveKey, LiveBlock> =
            overlaid.into_iter().map(|at| blocks[at].block()).chain(other_over).collect();
        over.extend(&seen_over);
        seen_over.extend(other_seen);
        let mut by_site: HashMap<u32, Weighted> = HashMap::new();
        for block in over.values() {
            by_site.entry(block.site).or_default().add(self.weighing.block(block));
        }
        self.gone.seen_over = seen_over;
        self.gone.over = over;
        let before = std::mem::replace(&mut self.gone.by_site, by_site);
        let sites: Vec<u32> = before.into_keys().chain(self.gone.by_site.keys().copied()).collect();
        for site in sites {
            self.set_gone(site, maps);
        }
        Ok(())
    }
}

/// A block as an entry of the live table has it: there may be millions.
struct Packed {
    key: u64,
    value: u64,
    time_ns: u64,
}

impl Packed {
    /// `None` for what no entry can tell, at odd addresses, of 1 TiB and more or with a weight: it lies over nothing, and nothing
    /// over it.
    fn new(key: &LiveKey, block: &LiveBlock) -> Option<Self> {
        let (packed, value) = (live::key(key.process, key.address), live::value(block.size, block.site));
        let held = if !block.is_held() { 0 } else { live::HELD };
        (packed != 0 && value != 0 && block.weight() == 0).then_some(Self {
            key: packed,
            value: value | held,
            time_ns: block.time_ns,
        })
    }

    fn block(&self) -> (LiveKey, LiveBlock) {
        let (process, address) = live::unpacked(self.key);
        (LiveKey { address, process, _pad: 0 }, live::block(self.value, self.time_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_without_a_files_code_where_it_is_known_to_be_are_of_another_image() {
        let maps = |text: &str| crate::process::maps::parse(text.as_bytes());
        let code = "7000-9000 r-xp 00002000 fe:01 9 /lib/x.so\n";
        let mut builder = ProfileBuilder::default();
        builder.set_image(0, &maps(&format!("1000-2000 r-xp 0 00:00 0 [vdso]\n{code}")), &[]);
        let is_of_image = |record, text: &str| builder.is_of_image(record, &maps(text));
        assert!(is_of_image(0, &format!("3000-4000 rw-p 0 00:00 0 [heap]\n{code}")));
        // As right after an exec, before the program's first instruction.
        assert!(!is_of_image(0, "1000-2000 r-xp 0 00:00 0 [vdso]\n8000-9000 rw-p 0 00:00 0 [stack]\n"));
        for other in ["7000-8000 r-xp 00002000", "7000-9000 r-xp 00003000", "7000-9000 rw-p 00002000"] {
            assert!(!is_of_image(0, &format!("{other} fe:01 9 /lib/x.so\n")), "{other}");
        }
        assert!(!is_of_image(1, code));
    }
}
