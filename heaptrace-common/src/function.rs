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
    /// The same where the name that it is called with says so: jemalloc's mallctl("arena.0.reset"). By some names it gives
    /// blocks, of which nothing is known either.
    Control = 22,
    /// Gives the numbers that stand for such a name.
    ControlName = 23,
    /// The same as `Control`, by numbers.
    ControlNumbers = 24,
    /// Gives a block whose size is not among its arguments: it is not traced, and its calls are counted.
    Unseen = 25,
}

impl Function {
    /// Every function, in the order of its number.
    pub const ALL: [Self; 26] = [
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
        Self::ControlName,
        Self::ControlNumbers,
        Self::Unseen,
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

    /// Whether blocks come of it that are traced: it is neither growth nor a fault.
    pub fn is_allocation(self) -> bool {
        !self.is_growth() && self != Self::PageFault && !self.is_told()
    }

    /// Whether its calls are told, and what they do to blocks is not known: it may end many at once, or give some.
    pub const fn is_told(self) -> bool {
        matches!(
            self,
            Self::EndHeap | Self::Control | Self::ControlName | Self::ControlNumbers | Self::Unseen
        )
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
            Self::ControlName => "mallctlnametomib",
            Self::ControlNumbers => "mallctlbymib",
            Self::Unseen => "not traced",
        }
    }
}

/// How a function passes size, result and freed block. `argN` counts from 0, System V order. Where nothing else is said, the
/// result is the return value.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// size = arg0: malloc, valloc, operator new, mallocx.
    Size0 = 1,
    /// size = arg1: aligned_alloc, memalign, mi_heap_malloc.
    Size1 = 2,
    /// size = arg2: rpmalloc_heap_aligned_alloc.
    Size2 = 3,
    /// size = arg0 rounded up to pages: pvalloc.
    Pages0 = 4,
    /// size = arg0 * arg1 (the call fails on overflow): calloc.
    Product01 = 5,
    /// size = arg1 * arg2: mi_heap_calloc, rpaligned_calloc.
    Product12 = 6,
    /// size = arg2 * arg3: rpmalloc_heap_aligned_calloc.
    Product23 = 7,
    /// size = arg2, result = `*arg0` if the return value is 0: posix_memalign.
    OutPointer = 8,
    /// frees arg0, returns nothing: free, operator delete, sdallocx.
    Free0 = 9,
    /// frees arg1, returns nothing: rpmalloc_heap_free.
    Free1 = 10,
    /// frees arg0, size = arg1: realloc, rallocx.
    Resize = 16,
    /// frees arg0, size = arg1 * arg2: reallocarray.
    ResizeProduct = 17,
    /// frees arg0, size = arg2: rpaligned_realloc.
    Resize02 = 18,
    /// frees arg0, size = arg3: sn_rust_realloc.
    Resize03 = 19,
    /// frees arg1, size = arg2: mi_heap_realloc.
    Resize12 = 20,
    /// frees arg1, size = arg2 * arg3: mi_heap_reallocn.
    ResizeProduct123 = 21,
    /// frees arg1, size = arg3: rpmalloc_heap_aligned_realloc.
    Resize13 = 22,
}

/// Numbers of shapes from here on both free and give memory.
const FIRST_RESIZE: u8 = Shape::Resize as u8;

/// Whether the shape with a number both frees and gives memory.
#[inline(always)]
pub const fn resizes(shape: u8) -> bool {
    shape >= FIRST_RESIZE
}

/// Whether the shape with a number frees its second argument rather than its first.
#[inline(always)]
pub const fn frees_second(shape: u8) -> bool {
    shape == Shape::Free1 as u8 || shape >= Shape::Resize12 as u8
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 17] = [
        Self::Size0,
        Self::Size1,
        Self::Size2,
        Self::Pages0,
        Self::Product01,
        Self::Product12,
        Self::Product23,
        Self::OutPointer,
        Self::Free0,
        Self::Free1,
        Self::Resize,
        Self::ResizeProduct,
        Self::Resize02,
        Self::Resize03,
        Self::Resize12,
        Self::ResizeProduct123,
        Self::Resize13,
    ];

    /// Whether the call gives memory.
    pub const fn allocates(self) -> bool {
        !matches!(self, Self::Free0 | Self::Free1)
    }

    /// Which argument is the size, and which one it is multiplied by.
    pub const fn size(self) -> Option<(u8, Option<u8>)> {
        Some(match self {
            Self::Size0 | Self::Pages0 => (0, None),
            Self::Size1 | Self::Resize => (1, None),
            Self::Size2 | Self::OutPointer | Self::Resize02 | Self::Resize12 => (2, None),
            Self::Resize03 | Self::Resize13 => (3, None),
            Self::Product01 => (0, Some(1)),
            Self::Product12 | Self::ResizeProduct => (1, Some(2)),
            Self::Product23 | Self::ResizeProduct123 => (2, Some(3)),
            Self::Free0 | Self::Free1 => return None,
        })
    }

    /// How many of the leading argument registers (rdi, rsi, rdx, rcx) the probe reads.
    pub const fn arguments(self) -> u8 {
        match self.size() {
            Some((size, None)) => size + 1,
            Some((_, Some(factor))) => factor + 1,
            None if frees_second(self as u8) => 2,
            None => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_number_of_a_shape_says_is_what_the_shape_says() {
        for shape in Shape::ALL {
            let freed = if frees_second(shape as u8) { 1 } else { 0 };
            assert!(shape.arguments() > freed && shape.arguments() <= 4, "{shape:?}");
            assert!(!resizes(shape as u8) || shape.allocates(), "{shape:?}");
            assert_eq!(shape.size().is_some(), shape.allocates(), "{shape:?}");
        }
        let freeing = Shape::ALL.into_iter().filter(|shape| resizes(*shape as u8) || !shape.allocates());
        assert_eq!(freeing.count(), 9);
    }
}
