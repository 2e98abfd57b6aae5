//! The layouts of what the model is made of.

use super::{Bad, Reader, Wire, Writer, record};
use crate::model::{
    AllocatorInfo, BadFree, BuildId, Call, Cohort, Cohorts, Extent, Frame, FrameId, FreePair, Frees,
    GlibcHeap, GrowthId, Heap, HitPrice, Host, JemallocHeap, LifetimeHistogram, Location, LocationId,
    Mappings, Meant, Mode, Module, ModuleId, Process, ProcessId, Residency, Samples, Sampling, Site, SiteId,
    SizeFilter, SizeHistogram, Stack, StackId, Sums, Symbol, Thread, ThreadId, Totals, Traced, TracedBlocks,
    Untraceable,
};
use heaptrace_common::{function::Function, sampling::Weights, stack::StackEnd};

impl Wire for u64 {
    fn write(&self, to: &mut Writer) {
        to.number(*self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.number()
    }
}

impl Wire for i64 {
    fn write(&self, to: &mut Writer) {
        to.number(((self << 1) ^ (self >> 63)).cast_unsigned());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        let number = from.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

impl Wire for u32 {
    fn write(&self, to: &mut Writer) {
        to.number(u64::from(*self));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Self::try_from(from.number()?).map_err(|_| Bad::Number)
    }
}

impl Wire for u8 {
    fn write(&self, to: &mut Writer) {
        to.byte(*self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.byte()
    }
}

impl Wire for bool {
    fn write(&self, to: &mut Writer) {
        to.byte(u8::from(*self));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            number => Err(Bad::Choice { what: "truth value", number: number.into() }),
        }
    }
}

impl Wire for String {
    fn write(&self, to: &mut Writer) {
        to.text(self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.text()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn write(&self, to: &mut Writer) {
        to.number(self.len() as u64);
        self.iter().for_each(|one| one.write(to));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.list_of(|_, from| T::read(from))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn write(&self, to: &mut Writer) {
        self.is_some().write(to);
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        if bool::read(from)? { T::read(from).map(Some) } else { Ok(None) }
    }
}

impl<T: Wire> Wire for Box<T> {
    fn write(&self, to: &mut Writer) {
        T::write(self, to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        T::read(from).map(Self::new)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn write(&self, to: &mut Writer) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

/// Types that are written as what they hold.
macro_rules! transparent {
    ($($type:ident($of:ty);)*) => {
        $(impl Wire for $type {
            fn write(&self, to: &mut Writer) {
                <$of as Wire>::write(&self.0, to);
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
                <$of as Wire>::read(from).map(Self)
            }
        })*
    };
}

transparent! {
    ModuleId(u32);
    LocationId(u32);
    FrameId(u32);
    StackId(u32);
    ProcessId(u32);
    SiteId(u32);
    GrowthId(u32);
    ThreadId(u32);
    BuildId(Vec<u8>);
    SizeHistogram(Vec<u64>);
    LifetimeHistogram(Vec<u64>);
}

impl Wire for Function {
    fn write(&self, to: &mut Writer) {
        to.byte(*self as u8);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Self::from_number(from.byte()?).unwrap_or(Self::Unknown))
    }
}

impl Wire for StackEnd {
    fn write(&self, to: &mut Writer) {
        to.byte(*self as u8);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Self::from_number(from.byte()?))
    }
}

impl Wire for Mode {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Exact => to.number(0),
            Self::Growth => to.number(1),
            Self::Faults => to.number(2),
            Self::Allocs => to.number(3),
            Self::Sampled(sampling) => {
                to.number(4);
                sampling.write(to);
            }
            Self::Native => to.number(5),
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        match from.number()? {
            0 => Ok(Self::Exact),
            1 => Ok(Self::Growth),
            2 => Ok(Self::Faults),
            3 => Ok(Self::Allocs),
            4 => Wire::read(from).map(Self::Sampled),
            5 => Ok(Self::Native),
            number => Err(Bad::Choice { what: "mode", number }),
        }
    }
}

impl Wire for Meant {
    fn write(&self, to: &mut Writer) {
        to.number(match self {
            Self::Other => 0,
            Self::C => 1,
            Self::Cpp => 2,
        });
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        // What newer versions tell apart is none of these.
        Ok(match from.number()? {
            1 => Self::C,
            2 => Self::Cpp,
            _ => Self::Other,
        })
    }
}

impl Wire for Location {
    fn write(&self, to: &mut Writer) {
        to.record(|to| match self {
            Self::InModule { module, offset } => {
                to.number(0);
                module.write(to);
                offset.write(to);
            }
            Self::Anonymous { process, address } => {
                to.number(1);
                process.write(to);
                address.write(to);
            }
            Self::Unmapped { process, address } => {
                to.number(2);
                process.write(to);
                address.write(to);
            }
        });
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.record(|from| match from.number()? {
            0 => Ok(Self::InModule { module: Wire::read(from)?, offset: Wire::read(from)? }),
            1 => Ok(Self::Anonymous { process: Wire::read(from)?, address: Wire::read(from)? }),
            2 => Ok(Self::Unmapped { process: Wire::read(from)?, address: Wire::read(from)? }),
            number => Err(Bad::Choice { what: "kind of location", number }),
        })
    }
}

impl Wire for Heap {
    fn write(&self, to: &mut Writer) {
        to.record(|to| match self {
            Self::Unreadable { allocator, why } => {
                to.number(0);
                allocator.write(to);
                why.write(to);
            }
            Self::Glibc(heap) => {
                to.number(1);
                heap.write(to);
            }
            Self::Jemalloc(heap) => {
                to.number(2);
                heap.write(to);
            }
        });
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.record(|from| match from.number()? {
            0 => Ok(Self::Unreadable { allocator: Wire::read(from)?, why: Wire::read(from)? }),
            1 => Wire::read(from).map(Self::Glibc),
            2 => Wire::read(from).map(Self::Jemalloc),
            number => Err(Bad::Choice { what: "kind of heap", number }),
        })
    }
}

record!(Host { kernel: String, arch: String });
record!(Module { path: String, build_id: Option<BuildId> });
record!(Symbol { name: String, file: Option<String>, line: Option<u32>, inlined: bool });
record!(Frame { address: u64, location: LocationId });
record!(Stack { frames: Vec<FrameId>, end: StackEnd });
record!(Thread { tid: u32, name: String });
record!(Totals {
    alloc_bytes: u64,
    alloc_count: u64,
    free_bytes: u64,
    free_count: u64,
    released_bytes: u64,
    released_count: u64,
    gone_bytes: u64,
    gone_count: u64,
});
record!(Site {
    process: ProcessId,
    stack: StackId,
    function: Function,
    totals: Totals,
    oldest_age_ns: Option<u64>,
    sizes: SizeHistogram,
} later {
    samples: Option<Box<Samples>>,
    thread: Option<ThreadId>,
    lifetimes: LifetimeHistogram,
});
record!(Cohort { allocated: u64, freed: u64, held_bytes: u64, live: u64, live_bytes: u64 });
record!(Cohorts { span_ns: u64, parts: Vec<Cohort> });
record!(Sampling { mean: u64, frees: bool });
record!(Samples { allocated: Sums, freed: Sums, gone: Sums });
record!(Sums { samples: u64, seen_bytes: u64, weights: Weights });
record!(Weights { bytes: u64, count: u64, bytes_variance: u64, count_variance: u64 });
record!(Frees { bad: Vec<BadFree>, pairs: Vec<FreePair>, is_cut: bool });
record!(Call { function: Function, stack: StackId });
record!(BadFree {
    process: ProcessId,
    call: Call,
    count: u64,
    address: u64,
    allocated: Option<Call>,
    freed: Option<Call>,
});
record!(FreePair { process: ProcessId, allocated: Call, freed: Call, meant: (Meant, Meant), count: u64 });
record!(AllocatorInfo { kind: String, path: String });
record!(Process {
    pid: u32,
    parent_pid: Option<u32>,
    comm: String,
    exe: String,
    allocators: Vec<AllocatorInfo>,
    totals: Totals,
    peak_live_bytes: u64,
    failed_count: u64,
    unknown_frees: u64,
    missed_frees: u64,
    inherited_bytes: u64,
    inherited_count: u64,
    inherited_free_count: u64,
    lost_bytes: u64,
    lost_count: u64,
    filtered_bytes: u64,
    filtered_count: u64,
    brk_bytes: i64,
    mmap_bytes: u64,
    munmap_bytes: u64,
    rss_bytes: u64,
    exited: bool,
    attach_gap_ns: Option<u64>,
    life_ns: u64,
    attached_ns: u64,
} later {
    over: bool,
    seen_bytes: u64,
    seen_count: u64,
    hits: u64,
    cpu_ns: Option<u64>,
    paused_ns: u64,
    paused: bool,
    own_sample_bytes: u64,
    heaps_ended: u64,
    unseen_calls: u64,
});
record!(HitPrice { trap_ns: u64, program_ns: u64 });
record!(Untraceable { pid: u32, comm: String, reason: String });
record!(SizeFilter { min: u64, max: u64 });
record!(Extent { virtual_bytes: u64, resident_bytes: u64 });
record!(Residency {
    at_ns: u64,
    took_ns: u64,
    mappings: Mappings,
    swap_bytes: u64,
    heap: Heap,
    traced: Traced,
} later {
    hugetlb_bytes: u64,
});
record!(Mappings {
    anonymous: Extent,
    main_stack: Extent,
    thread_stacks: Extent,
    files: Extent,
    copied: Extent,
    shared: Extent,
    special: Extent,
});
record!(GlibcHeap {
    arenas: u64,
    in_use: Extent,
    mmapped: Extent,
    mmapped_count: u64,
    mmapped_found: bool,
    free: Extent,
    top: Extent,
    overhead: Extent,
    consistent: bool,
} later {
    hugetlb_bytes: u64,
});
record!(JemallocHeap {
    version: String,
    arenas: u64,
    in_use_bytes: u64,
    cached_bytes: u64,
    active_bytes: u64,
    dirty_bytes: u64,
    muzzy_bytes: u64,
    metadata_bytes: u64,
});
record!(Traced {
    live_bytes: u64,
    live_count: u64,
    unknown_frees: u64,
    inherited_count: u64,
    filtered_count: u64,
    lost_count: u64,
    blocks: Option<TracedBlocks>,
});
record!(TracedBlocks { requested: Extent, slack: Extent, count: u64, exact: bool } later { hugetlb_bytes: u64 });
