//! The functions of the malloc family: what each is called in a report, and where its arguments are.

/// A traced allocation function, as reports name it. The discriminant is what maps and files hold.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    /// Stands for stacks that did not fit (see `Counter::SiteTableFull`).
    Unknown = 0,
    Malloc = 1,
    Calloc = 2,
    Realloc = 3,
    ReallocArray = 4,
    AlignedAlloc = 5,
    Memalign = 6,
    PosixMemalign = 7,
    Valloc = 8,
    Pvalloc = 9,
    OperatorNew = 10,
    OperatorNewArray = 11,
    Mallocx = 12,
    Rallocx = 13,
    Free = 14,
    OperatorDelete = 15,
    /// The system calls by which a process's memory grows: no allocation of the program's, but a view of its own.
    Brk = 16,
    Mmap = 17,
    Mremap = 18,
    /// A page fault: memory becomes resident. A view of its own, too.
    PageFault = 19,
    /// An allocation that the allocator itself chose for a sample, by whichever function.
    Sampled = 20,
    /// Ends all blocks of a heap at once: of which blocks it had, nothing is known. No allocation, and no free of one.
    EndHeap = 21,
    /// The same where the name that it is called with says so: jemalloc's mallctl("arena.0.reset").
    Control = 22,
}

impl Function {
    /// Every function, in the order of its number.
    pub const ALL: [Self; 23] = [
        Self::Unknown,
        Self::Malloc,
        Self::Calloc,
        Self::Realloc,
        Self::ReallocArray,
        Self::AlignedAlloc,
        Self::Memalign,
        Self::PosixMemalign,
        Self::Valloc,
        Self::Pvalloc,
        Self::OperatorNew,
        Self::OperatorNewArray,
        Self::Mallocx,
        Self::Rallocx,
        Self::Free,
        Self::OperatorDelete,
        Self::Brk,
        Self::Mmap,
        Self::Mremap,
        Self::PageFault,
        Self::Sampled,
        Self::EndHeap,
        Self::Control,
    ];

    /// The function numbered `number`, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether this is a system call that maps memory, which the allocator's functions may call: never to be added
    /// to them.
    pub fn is_growth(self) -> bool {
        matches!(self, Self::Brk | Self::Mmap | Self::Mremap)
    }

    /// Whether blocks come of it: it is neither growth nor a fault.
    pub fn is_allocation(self) -> bool {
        !self.is_growth() && self != Self::PageFault && !self.ends_heaps()
    }

    /// Whether it may end many blocks at once.
    pub const fn ends_heaps(self) -> bool {
        matches!(self, Self::EndHeap | Self::Control)
    }

    /// The name that reports print.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Malloc => "malloc",
            Self::Calloc => "calloc",
            Self::Realloc => "realloc",
            Self::ReallocArray => "reallocarray",
            Self::AlignedAlloc => "aligned_alloc",
            Self::Memalign => "memalign",
            Self::PosixMemalign => "posix_memalign",
            Self::Valloc => "valloc",
            Self::Pvalloc => "pvalloc",
            Self::OperatorNew => "operator new",
            Self::OperatorNewArray => "operator new[]",
            Self::Mallocx => "mallocx",
            Self::Rallocx => "rallocx",
            Self::Free => "free",
            Self::OperatorDelete => "operator delete",
            Self::Brk => "brk",
            Self::Mmap => "mmap",
            Self::Mremap => "mremap",
            Self::PageFault => "page fault",
            Self::Sampled => "allocator's sample",
            Self::EndHeap => "end of a heap",
            Self::Control => "mallctl",
        }
    }
}

/// How a function passes size, result and freed block. `argN` counts from 0, System V order.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// size = arg0, result = return value: malloc, valloc, operator new, mallocx.
    Size0 = 1,
    /// size = arg1, result = return value: aligned_alloc, memalign.
    Size1 = 2,
    /// size = arg0 rounded up to pages, result = return value: pvalloc.
    Pages0 = 3,
    /// size = arg0 * arg1 (the call fails on overflow), result = return value: calloc.
    Product01 = 4,
    /// size = arg2, result = `*arg0` if the return value is 0: posix_memalign.
    OutPointer = 5,
    /// frees arg0, size = arg1, result = return value: realloc, rallocx.
    Resize = 6,
    /// frees arg0, size = arg1 * arg2, result = return value: reallocarray.
    ResizeProduct = 7,
    /// frees arg0, returns nothing: free, operator delete, sdallocx.
    Free0 = 8,
}

impl Shape {
    /// Whether the call gives memory.
    pub const fn allocates(self) -> bool {
        !matches!(self, Self::Free0)
    }

    /// How many of the leading argument registers (rdi, rsi, rdx) the probe reads.
    pub const fn arguments(self) -> u8 {
        match self {
            Self::Size0 | Self::Pages0 | Self::Free0 => 1,
            Self::Size1 | Self::Product01 | Self::Resize => 2,
            Self::OutPointer | Self::ResizeProduct => 3,
        }
    }
}
