//! Frees that were looked into, as the profile has them.

use super::{ProfileBuilder, kernel::KernelTables};
use crate::{
    bpf::FreesRead,
    model::{BadFree, Call, FreePair, Frees, Location, LocationId, Meant, ModuleId, ProcessId, StackId},
    probes::{callee, forward::Target},
};
use heaptrace_common::{frees, function::Function};
use std::{cmp::Reverse, collections::HashMap};

/// What calls are known to mean, by where they return to, and by where they go.
#[derive(Default)]
struct Known {
    calls: HashMap<LocationId, Meant>,
    targets: HashMap<(ModuleId, Target), Meant>,
}

impl ProfileBuilder {
    /// See the module: once, after the sites were read for the last time, and before the last chunk.
    pub fn frees(&mut self, read: &FreesRead, maps: &impl KernelTables) -> Frees {
        let mut known = Known::default();
        let mut bad: Vec<BadFree> =
            read.bad.iter().filter_map(|(key, value)| self.bad_free(key, value, maps)).collect();
        bad.sort_by_key(|of| (Reverse(of.count), of.address));
        let mut pairs = Vec::new();
        for (frees::FreePair { site, by }, count) in &read.pairs {
            let both = self.call_of(*site, maps).zip(self.call_of(*by, maps));
            let Some(((process, allocated), (_, freed))) = both else { continue };
            let meant = (self.meant(allocated.stack, &mut known), self.meant(freed.stack, &mut known));
            // Nothing can be said of the others.
            if meant.1 != Meant::Other {
                pairs.push(FreePair { process, allocated, freed, meant, count: *count });
            }
        }
        pairs.sort_by_key(|of| (Reverse(of.count), of.process, of.allocated.stack, of.freed.stack));
        Frees { bad, pairs, is_cut: read.is_full }
    }

    fn bad_free(
        &mut self,
        key: &frees::BadFreeKey,
        value: &frees::BadFree,
        maps: &impl KernelTables,
    ) -> Option<BadFree> {
        let (process, call) = self.call_of(key.by, maps)?;
        let mut of = |number: u32| Some(self.call_of(number.checked_sub(1)?, maps)?.1);
        let (allocated, freed) = (of(key.site), of(key.first));
        Some(BadFree { process, call, count: value.count, address: value.address, allocated, freed })
    }

    /// The process and the call of a site.
    fn call_of(&mut self, site: u32, maps: &impl KernelTables) -> Option<(ProcessId, Call)> {
        let record = maps.site(site)?;
        let process = self.table.id(record.process)?;
        let function = Function::from_number(record.function).unwrap_or(Function::Unknown);
        Some((process, Call { function, stack: self.stack(&record, maps, process) }))
    }

    /// What the call means that the innermost frame of a stack returns from.
    fn meant(&self, stack: StackId, known: &mut Known) -> Meant {
        let Some(frame) = self.stacks.table.items[stack.index()].frames.first() else { return Meant::Other };
        let at = self.frames.items[frame.index()].location;
        if let Some(meant) = known.calls.get(&at) {
            return *meant;
        }
        let meant = self.looked_up(at, known).unwrap_or_default();
        known.calls.insert(at, meant);
        meant
    }

    fn looked_up(&self, at: LocationId, known: &mut Known) -> Option<Meant> {
        let Location::InModule { module, offset } = *self.locations.table.items.get(at.index())? else {
            return None;
        };
        let object = self.sources.get(module.index())?.as_ref()?;
        let target = callee::target(object, offset)?;
        let look = || callee::names(object, target).iter().map(|name| meant_by(name)).max();
        Some(*known.targets.entry((module, target)).or_insert_with(|| look().unwrap_or_default()))
    }
}

/// Which kind of function has this name.
fn meant_by(name: &str) -> Meant {
    const C: [&str; 11] = [
        "malloc",
        "calloc",
        "realloc",
        "reallocarray",
        "aligned_alloc",
        "memalign",
        "posix_memalign",
        "valloc",
        "pvalloc",
        "free",
        "cfree",
    ];
    const CPP: [&str; 4] = ["_Znw", "_Zna", "_Zdl", "_Zda"];
    if C.contains(&name) {
        Meant::C
    } else if CPP.iter().any(|operator| name.starts_with(operator)) {
        Meant::Cpp
    } else {
        Meant::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_of_a_kind_by_their_names() {
        for (name, meant) in [
            ("free", Meant::C),
            ("aligned_alloc", Meant::C),
            ("_Znwm", Meant::Cpp),
            ("_ZdaPvmSt11align_val_t", Meant::Cpp),
            ("_ZN4Pool4freeEPv", Meant::Other),
            ("_ZN4PooldlEPv", Meant::Other),
            ("g_free", Meant::Other),
            ("xmalloc", Meant::Other),
        ] {
            assert_eq!(meant_by(name), meant, "{name}");
        }
    }
}
