//! The table of allocation functions: from symbol name to what it does with its arguments.

use heaptrace_common::function::{Function, Shape};

/// What a symbol of the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub function: Function,
    pub shape: Shape,
    pub role: Role,
    /// Of several names for one address, the one with the lowest rank names the probe.
    pub rank: u16,
}

impl Known {
    /// Whether it gives one block back, and does nothing else.
    pub fn frees(&self) -> bool {
        !self.shape.allocates() && !self.function.is_told()
    }
}

/// How a symbol is to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Belongs to an allocator.
    Base,
    /// A C++ operator: an allocator's only where the file defines a base function too. Elsewhere (libstdc++, a
    /// program's own replacement) it calls malloc, which is probed.
    Operator,
}

use Function as F;
use Shape as S;

type Row = (&'static str, Function, Shape);

/// The C names, which every allocator may define and many export with a prefix as well.
const C_NAMES: [Row; 22] = [
    ("malloc", F::Malloc, S::Size0),
    ("calloc", F::Calloc, S::Product01),
    ("realloc", F::Realloc, S::Resize),
    ("reallocarray", F::ReallocArray, S::ResizeProduct),
    ("aligned_alloc", F::AlignedAlloc, S::Size1),
    ("memalign", F::Memalign, S::Size1),
    ("posix_memalign", F::PosixMemalign, S::OutPointer),
    ("valloc", F::Valloc, S::Size0),
    ("pvalloc", F::Pvalloc, S::Pages0),
    ("free", F::Free, S::Free0),
    ("cfree", F::Free, S::Free0),
    ("free_sized", F::Free, S::Free0),
    ("free_aligned_sized", F::Free, S::Free0),
    ("reallocf", F::Realloc, S::Resize),
    // jemalloc's own interface.
    ("mallocx", F::Mallocx, S::Size0),
    ("rallocx", F::Rallocx, S::Resize),
    ("dallocx", F::Free, S::Free0),
    ("sdallocx", F::Free, S::Free0),
    ("smallocx", F::Mallocx, S::Size0),
    // Only calls that end an arena count, or give blocks.
    ("mallctl", F::Control, S::Free0),
    ("mallctlnametomib", F::ControlName, S::Free0),
    ("mallctlbymib", F::ControlNumbers, S::Free1),
];

/// Prefixes under which `C_NAMES` appear: jemalloc's (its default, Rust's, FreeBSD's), gperftools'.
const PREFIXES: [&str; 4] = ["je_", "_rjem_", "__je_", "tc_"];

/// Names of one allocator only. Argument orders differ: size first in `mi_malloc_aligned`, second in
/// `mi_aligned_alloc`, behind the heap in `mi_heap_malloc`.
const VENDOR_NAMES: [Row; 140] = [
    ("mi_malloc", F::Malloc, S::Size0),
    ("mi_malloc_small", F::Malloc, S::Size0),
    ("mi_malloc_aligned", F::Malloc, S::Size0),
    ("mi_malloc_aligned_at", F::Malloc, S::Size0),
    ("mi_mallocn", F::Malloc, S::Product01),
    ("mi_zalloc", F::Calloc, S::Size0),
    ("mi_zalloc_small", F::Calloc, S::Size0),
    ("mi_zalloc_aligned", F::Calloc, S::Size0),
    ("mi_zalloc_aligned_at", F::Calloc, S::Size0),
    ("mi_calloc", F::Calloc, S::Product01),
    ("mi_calloc_aligned", F::Calloc, S::Product01),
    ("mi_calloc_aligned_at", F::Calloc, S::Product01),
    ("mi_realloc", F::Realloc, S::Resize),
    ("mi_reallocf", F::Realloc, S::Resize),
    ("mi_rezalloc", F::Realloc, S::Resize),
    ("mi_realloc_aligned", F::Realloc, S::Resize),
    ("mi_realloc_aligned_at", F::Realloc, S::Resize),
    ("mi_rezalloc_aligned", F::Realloc, S::Resize),
    ("mi_rezalloc_aligned_at", F::Realloc, S::Resize),
    ("mi_reallocn", F::ReallocArray, S::ResizeProduct),
    ("mi_reallocarray", F::ReallocArray, S::ResizeProduct),
    ("mi_recalloc", F::ReallocArray, S::ResizeProduct),
    ("mi_recalloc_aligned", F::ReallocArray, S::ResizeProduct),
    ("mi_recalloc_aligned_at", F::ReallocArray, S::ResizeProduct),
    ("mi_aligned_recalloc", F::ReallocArray, S::ResizeProduct),
    ("mi_aligned_offset_recalloc", F::ReallocArray, S::ResizeProduct),
    ("mi_aligned_alloc", F::AlignedAlloc, S::Size1),
    ("mi_memalign", F::Memalign, S::Size1),
    ("mi_posix_memalign", F::PosixMemalign, S::OutPointer),
    ("mi_valloc", F::Valloc, S::Size0),
    ("mi_pvalloc", F::Pvalloc, S::Pages0),
    ("mi_heap_malloc", F::Malloc, S::Size1),
    ("mi_heap_malloc_small", F::Malloc, S::Size1),
    ("mi_heap_malloc_aligned", F::Malloc, S::Size1),
    ("mi_heap_malloc_aligned_at", F::Malloc, S::Size1),
    ("mi_heap_zalloc", F::Calloc, S::Size1),
    ("mi_heap_zalloc_aligned", F::Calloc, S::Size1),
    ("mi_heap_zalloc_aligned_at", F::Calloc, S::Size1),
    ("mi_heap_zalloc_small", F::Calloc, S::Size1),
    ("mi_heap_calloc", F::Calloc, S::Product12),
    ("mi_heap_calloc_aligned", F::Calloc, S::Product12),
    ("mi_heap_calloc_aligned_at", F::Calloc, S::Product12),
    ("mi_heap_mallocn", F::Malloc, S::Product12),
    ("mi_heap_realloc", F::Realloc, S::Resize12),
    ("mi_heap_reallocf", F::Realloc, S::Resize12),
    ("mi_heap_rezalloc", F::Realloc, S::Resize12),
    ("mi_heap_realloc_aligned", F::Realloc, S::Resize12),
    ("mi_heap_realloc_aligned_at", F::Realloc, S::Resize12),
    ("mi_heap_rezalloc_aligned", F::Realloc, S::Resize12),
    ("mi_heap_rezalloc_aligned_at", F::Realloc, S::Resize12),
    ("mi_heap_reallocn", F::ReallocArray, S::ResizeProduct123),
    ("mi_heap_recalloc", F::ReallocArray, S::ResizeProduct123),
    ("mi_heap_recalloc_aligned", F::ReallocArray, S::ResizeProduct123),
    ("mi_heap_recalloc_aligned_at", F::ReallocArray, S::ResizeProduct123),
    ("mi_heap_alloc_new", F::OperatorNew, S::Size1),
    ("mi_heap_alloc_new_n", F::OperatorNew, S::Product12),
    // The size is that of what is copied.
    ("mi_strdup", F::Unseen, S::Free0),
    ("mi_strndup", F::Unseen, S::Free0),
    ("mi_realpath", F::Unseen, S::Free0),
    ("mi_wcsdup", F::Unseen, S::Free0),
    ("mi_mbsdup", F::Unseen, S::Free0),
    ("mi_dupenv_s", F::Unseen, S::Free0),
    ("mi_heap_strdup", F::Unseen, S::Free0),
    ("mi_heap_strndup", F::Unseen, S::Free0),
    ("mi_heap_realpath", F::Unseen, S::Free0),
    ("mi_new", F::OperatorNew, S::Size0),
    ("mi_new_nothrow", F::OperatorNew, S::Size0),
    ("mi_new_aligned", F::OperatorNew, S::Size0),
    ("mi_new_aligned_nothrow", F::OperatorNew, S::Size0),
    ("mi_new_n", F::OperatorNew, S::Product01),
    ("mi_new_realloc", F::Realloc, S::Resize),
    ("mi_new_reallocn", F::ReallocArray, S::ResizeProduct),
    ("mi_free", F::Free, S::Free0),
    ("mi_free_size", F::Free, S::Free0),
    ("mi_free_size_aligned", F::Free, S::Free0),
    ("mi_free_aligned", F::Free, S::Free0),
    ("mi_free_small", F::Free, S::Free0),
    ("mi_heap_destroy", F::EndHeap, S::Free0),
    // With the block's size told, too.
    ("mi_umalloc", F::Malloc, S::Size0),
    ("mi_umalloc_small", F::Malloc, S::Size0),
    ("mi_umalloc_aligned", F::Malloc, S::Size0),
    ("mi_uzalloc", F::Calloc, S::Size0),
    ("mi_uzalloc_small", F::Calloc, S::Size0),
    ("mi_uzalloc_aligned", F::Calloc, S::Size0),
    ("mi_ucalloc", F::Calloc, S::Product01),
    ("mi_urealloc", F::Realloc, S::Resize),
    ("mi_ufree", F::Free, S::Free0),
    ("tc_malloc_skip_new_handler", F::Malloc, S::Size0),
    ("tc_new", F::OperatorNew, S::Size0),
    ("tc_new_nothrow", F::OperatorNew, S::Size0),
    ("tc_new_aligned", F::OperatorNew, S::Size0),
    ("tc_new_aligned_nothrow", F::OperatorNew, S::Size0),
    ("tc_newarray", F::OperatorNewArray, S::Size0),
    ("tc_newarray_nothrow", F::OperatorNewArray, S::Size0),
    ("tc_newarray_aligned", F::OperatorNewArray, S::Size0),
    ("tc_newarray_aligned_nothrow", F::OperatorNewArray, S::Size0),
    ("tcmalloc_size_returning_operator_new", F::OperatorNew, S::Size0),
    ("tcmalloc_size_returning_operator_new_aligned", F::OperatorNew, S::Size0),
    ("tcmalloc_size_returning_operator_new_hot_cold", F::OperatorNew, S::Size0),
    ("tcmalloc_size_returning_operator_new_aligned_hot_cold", F::OperatorNew, S::Size0),
    ("__size_returning_new", F::OperatorNew, S::Size0),
    ("__size_returning_new_aligned", F::OperatorNew, S::Size0),
    ("__size_returning_new_hot_cold", F::OperatorNew, S::Size0),
    ("__size_returning_new_aligned_hot_cold", F::OperatorNew, S::Size0),
    ("scalable_malloc", F::Malloc, S::Size0),
    ("scalable_calloc", F::Calloc, S::Product01),
    ("scalable_realloc", F::Realloc, S::Resize),
    ("scalable_posix_memalign", F::PosixMemalign, S::OutPointer),
    ("scalable_aligned_malloc", F::AlignedAlloc, S::Size0),
    ("scalable_aligned_realloc", F::Realloc, S::Resize),
    ("scalable_free", F::Free, S::Free0),
    ("scalable_aligned_free", F::Free, S::Free0),
    // Of memory that the program gave, which may be blocks itself.
    ("_ZN3rml11pool_mallocEPNS_10MemoryPoolEm", F::Unseen, S::Free0),
    ("_ZN3rml12pool_reallocEPNS_10MemoryPoolEPvm", F::Unseen, S::Free0),
    ("_ZN3rml19pool_aligned_mallocEPNS_10MemoryPoolEmm", F::Unseen, S::Free0),
    ("_ZN3rml20pool_aligned_reallocEPNS_10MemoryPoolEPvmm", F::Unseen, S::Free0),
    ("rpmalloc", F::Malloc, S::Size0),
    ("rpcalloc", F::Calloc, S::Product01),
    ("rprealloc", F::Realloc, S::Resize),
    ("rpaligned_alloc", F::AlignedAlloc, S::Size1),
    ("rpmemalign", F::Memalign, S::Size1),
    ("rpposix_memalign", F::PosixMemalign, S::OutPointer),
    ("rpfree", F::Free, S::Free0),
    ("rpaligned_zalloc", F::Calloc, S::Size1),
    ("rpaligned_calloc", F::Calloc, S::Product12),
    ("rpaligned_realloc", F::Realloc, S::Resize02),
    ("rpmalloc_heap_alloc", F::Malloc, S::Size1),
    ("rpmalloc_heap_aligned_alloc", F::AlignedAlloc, S::Size2),
    ("rpmalloc_heap_calloc", F::Calloc, S::Product12),
    ("rpmalloc_heap_aligned_calloc", F::Calloc, S::Product23),
    ("rpmalloc_heap_realloc", F::Realloc, S::Resize12),
    ("rpmalloc_heap_aligned_realloc", F::Realloc, S::Resize13),
    ("rpmalloc_heap_free", F::Free, S::Free1),
    ("rpmalloc_heap_free_all", F::EndHeap, S::Free0),
    // snmalloc, as Rust's crates have it.
    ("sn_rust_alloc", F::Malloc, S::Size1),
    ("sn_rust_alloc_zeroed", F::Calloc, S::Size1),
    ("sn_rust_realloc", F::Realloc, S::Resize03),
    ("sn_rust_dealloc", F::Free, S::Free0),
    ("rpzalloc", F::Calloc, S::Size0),
    ("tc_free_sized", F::Free, S::Free0),
];

/// Itanium-mangled operators, by the name up to the parameters behind the first.
const OPERATORS: [Row; 4] = [
    ("_Znwm", F::OperatorNew, S::Size0),
    ("_Znam", F::OperatorNewArray, S::Size0),
    ("_ZdlPv", F::OperatorDelete, S::Free0),
    ("_ZdaPv", F::OperatorDelete, S::Free0),
];

/// The further parameters of an operator: size (of a delete), alignment, nothrow, and tcmalloc's hot/cold hint,
/// in this order, each present or not.
const OPERATOR_PARAMETERS: [&str; 4] = ["m", "St11align_val_t", "RKSt9nothrow_t", "12__hot_cold_t"];

/// Rank of the first vendor name and of the first operator: the C names come first, so that a report says
/// `malloc` where `malloc` and `mi_malloc` are one function.
const VENDOR_RANK: u16 = 100;
const OPERATOR_RANK: u16 = 1000;

/// Prefixes that others have for functions of these names, too: they are an allocator's where the file has a function by which
/// that is told. Those of snmalloc, hardened_malloc and scudo, where they were built not to replace the C library's.
pub const UNSURE_PREFIXES: [(&str, &str); 3] = [
    ("sn_", "sn_malloc_usable_size"),
    ("h_", "h_malloc_object_size"),
    ("scudo_", "scudo_malloc_usable_size"),
];

/// Looks up a symbol name (without version). `None` if it is no allocation function.
pub fn lookup(symbol: &str) -> Option<Known> {
    c_name(symbol, 0)
        .or_else(|| vendor_name(symbol))
        .or_else(|| operator(symbol))
        .or_else(|| PREFIXES.iter().find_map(|prefix| c_name(symbol.strip_prefix(prefix)?, VENDOR_RANK)))
}

/// The same in a file that has the functions by which `prefixes` are told.
pub fn lookup_with(symbol: &str, prefixes: &[&str]) -> Option<Known> {
    let unsure = || prefixes.iter().find_map(|prefix| c_name(symbol.strip_prefix(prefix)?, VENDOR_RANK));
    lookup(symbol).or_else(unsure)
}

/// The prefix of an allocator's C names in `symbol`: `je_` for `je_malloc`, the empty string for `malloc`.
pub fn family(symbol: &str) -> &'static str {
    let unsure = UNSURE_PREFIXES.iter().map(|(prefix, _)| prefix);
    let mut all = PREFIXES.iter().chain(&["mi_", "scalable_", "rp"]).chain(unsure);
    all.find(|prefix| symbol.starts_with(**prefix)).copied().unwrap_or_default()
}

fn c_name(symbol: &str, rank: u16) -> Option<Known> {
    find(&C_NAMES, symbol, rank)
}

fn vendor_name(symbol: &str) -> Option<Known> {
    if let Some(operator) = symbol.strip_prefix("tc_delete") {
        return tc_delete(operator);
    }
    // mimalloc 3: a thread's part of a heap has a heap's functions.
    if let Some(function) = symbol.strip_prefix("mi_theap_") {
        return find(&VENDOR_NAMES, &format!("mi_heap_{function}"), VENDOR_RANK);
    }
    // jemalloc's, with the version that it was built from.
    if symbol.starts_with("smallocx_") {
        return find(&C_NAMES, "smallocx", VENDOR_RANK);
    }
    find(&VENDOR_NAMES, symbol, VENDOR_RANK)
}

fn find(rows: &[Row], symbol: &str, rank: u16) -> Option<Known> {
    let index = rows.iter().position(|(name, ..)| *name == symbol)?;
    let (_, function, shape) = rows[index];
    Some(Known { function, shape, role: Role::Base, rank: rank + index as u16 })
}

/// gperftools' names of the forms of `operator delete`: `array`, then `_sized`, `_aligned`, `_nothrow`.
fn tc_delete(form: &str) -> Option<Known> {
    let form = form.strip_prefix("array").unwrap_or(form);
    let rest = ["_sized", "_aligned", "_nothrow"]
        .iter()
        .fold(form, |form, word| form.strip_prefix(word).unwrap_or(form));
    let known =
        Known { function: F::OperatorDelete, shape: S::Free0, role: Role::Base, rank: OPERATOR_RANK - 1 };
    rest.is_empty().then_some(known)
}

fn operator(symbol: &str) -> Option<Known> {
    let index = OPERATORS.iter().position(|(name, ..)| symbol.starts_with(name))?;
    let (name, function, shape) = OPERATORS[index];
    // `_Znwm` has the size in its name already; only a delete may be told it as a further parameter.
    let parameters = if shape.allocates() { &OPERATOR_PARAMETERS[1..] } else { &OPERATOR_PARAMETERS[..] };
    let rest =
        parameters.iter().fold(&symbol[name.len()..], |rest, word| rest.strip_prefix(word).unwrap_or(rest));
    let rank = OPERATOR_RANK + index as u16;
    rest.is_empty().then_some(Known { function, shape, role: Role::Operator, rank })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn what(symbol: &str) -> Option<(Function, Shape, Role)> {
        lookup(symbol).map(|known| (known.function, known.shape, known.role))
    }

    #[test]
    fn c_names_are_base_functions() {
        assert_eq!(what("malloc"), Some((F::Malloc, S::Size0, Role::Base)));
        assert_eq!(what("calloc"), Some((F::Calloc, S::Product01, Role::Base)));
        assert_eq!(what("aligned_alloc"), Some((F::AlignedAlloc, S::Size1, Role::Base)));
        assert_eq!(what("posix_memalign"), Some((F::PosixMemalign, S::OutPointer, Role::Base)));
        assert_eq!(what("pvalloc"), Some((F::Pvalloc, S::Pages0, Role::Base)));
        assert_eq!(what("reallocarray"), Some((F::ReallocArray, S::ResizeProduct, Role::Base)));
        assert_eq!(what("free_aligned_sized"), Some((F::Free, S::Free0, Role::Base)));
    }

    #[test]
    fn prefixed_families_mean_the_same_as_the_plain_names() {
        for prefix in PREFIXES {
            for (name, function, shape) in C_NAMES {
                assert_eq!(
                    what(&format!("{prefix}{name}")),
                    Some((function, shape, Role::Base)),
                    "{prefix}{name}"
                );
            }
        }
        assert_eq!(what("_rjem_sdallocx"), Some((F::Free, S::Free0, Role::Base)));
    }

    #[test]
    fn mimalloc_argument_orders_are_its_own() {
        assert_eq!(what("mi_malloc_aligned"), Some((F::Malloc, S::Size0, Role::Base)));
        assert_eq!(what("mi_aligned_alloc"), Some((F::AlignedAlloc, S::Size1, Role::Base)));
        assert_eq!(what("mi_heap_malloc"), Some((F::Malloc, S::Size1, Role::Base)));
        assert_eq!(what("mi_reallocn"), Some((F::ReallocArray, S::ResizeProduct, Role::Base)));
        assert_eq!(what("mi_new_n"), Some((F::OperatorNew, S::Product01, Role::Base)));
        assert_eq!(what("mi_usable_size"), None);
    }

    #[test]
    fn every_operator_form_is_known_and_nothing_else_of_that_mangling() {
        let align = "St11align_val_t";
        let nothrow = "RKSt9nothrow_t";
        for (new, function) in [("_Znwm", F::OperatorNew), ("_Znam", F::OperatorNewArray)] {
            for form in ["", nothrow, align, &format!("{align}{nothrow}")] {
                assert_eq!(what(&format!("{new}{form}")), Some((function, S::Size0, Role::Operator)));
            }
        }
        for delete in ["_ZdlPv", "_ZdaPv"] {
            for form in ["", "m", nothrow, align, &format!("m{align}"), &format!("{align}{nothrow}")] {
                assert_eq!(
                    what(&format!("{delete}{form}")),
                    Some((F::OperatorDelete, S::Free0, Role::Operator))
                );
            }
        }
        // Placement new does not allocate, and placement delete does not free.
        assert_eq!(what("_ZnwmPv"), None);
        assert_eq!(what("_ZdlPvS_"), None);
        assert_eq!(what("_Znwmm"), None);
    }

    #[test]
    fn gperftools_operators_are_base_functions() {
        assert_eq!(what("tc_newarray_aligned_nothrow"), Some((F::OperatorNewArray, S::Size0, Role::Base)));
        for form in ["", "_nothrow", "_sized", "_aligned", "_sized_aligned", "_aligned_nothrow"] {
            for array in ["", "array"] {
                assert_eq!(
                    what(&format!("tc_delete{array}{form}")),
                    Some((F::OperatorDelete, S::Free0, Role::Base))
                );
            }
        }
        assert_eq!(what("tc_delete_everything"), None);
    }

    #[test]
    fn other_vendors_are_known() {
        assert_eq!(what("scalable_aligned_malloc"), Some((F::AlignedAlloc, S::Size0, Role::Base)));
        assert_eq!(what("rpaligned_alloc"), Some((F::AlignedAlloc, S::Size1, Role::Base)));
    }

    #[test]
    fn plain_names_outrank_vendor_names_and_those_outrank_operators() {
        let rank = |symbol| lookup(symbol).map(|known| known.rank);
        assert!(rank("malloc") < rank("mi_malloc"));
        assert!(rank("free") < rank("cfree"));
        assert!(rank("tc_free") < rank("_ZdlPv"));
        assert!(rank("_Znwm") < rank("_Znam"));
    }

    #[test]
    fn what_ends_a_heap_frees_no_block() {
        for (symbol, function) in
            [("mi_heap_destroy", F::EndHeap), ("_rjem_mallctl", F::Control), ("mallctl", F::Control)]
        {
            let known = lookup(symbol).expect("known");
            assert_eq!((known.function, known.frees()), (function, false), "{symbol}");
            assert!(!function.is_allocation());
        }
        assert!(lookup("mi_free").is_some_and(|known| known.frees()));
        assert_eq!(lookup("mi_heap_delete"), None);
    }

    #[test]
    fn near_misses_are_not_allocation_functions() {
        for symbol in [
            "",
            "malloc_usable_size",
            "mallopt",
            "je_",
            "freeaddrinfo",
            "xmalloc",
            "_int_malloc",
            "tc_version",
        ] {
            assert_eq!(what(symbol), None, "{symbol}");
        }
    }

    #[test]
    fn families_are_told_apart() {
        assert_eq!([family("malloc"), family("_rjem_free"), family("mi_new")], ["", "_rjem_", "mi_"]);
    }

    proptest! {
        #[test]
        fn any_name_is_looked_up_without_panic(name in "\\PC*") {
            let _ = lookup(&name);
        }
    }
}
