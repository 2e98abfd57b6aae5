//! Values of maps, and what lies within them: the one way to the memory that programs share with each other and with
//! userspace.
//!
//! A value is there for as long as the program runs: the kernel frees no map that a program uses, and no element of an
//! array; one that is deleted from a hash map becomes another of the same map (its elements are made beforehand,
//! `prealloc_init` in kernel/bpf/hashtab.c). So a pointer to it, once looked up, needs no lifetime, and to read or write it
//! is safe wherever any bits are a value ([`Plain`]). That others write it meanwhile is for the caller to think of, as it is
//! of which element of a hash map it has become. References are made to it only where that is said.

use core::{
    borrow::Borrow,
    intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xadd, atomic_xchg},
    ptr::NonNull,
};

use aya_ebpf::{
    btf_maps,
    maps::{Array, HashMap, PerCpuArray},
};

use crate::mask::within;

/// A value of a map, or a part of one.
#[repr(transparent)]
pub struct Value<T>(NonNull<T>);

impl<T> Clone for Value<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Value<T> {}

/// The field of a value: `at!(record.live_bytes)`.
macro_rules! at {
    ($value:ident $(. $field:ident)+) => {{
        let value = $crate::value::Value::as_ptr($value);
        // SAFETY: a field of a value is within it.
        unsafe { $crate::value::Value::new(&raw mut (*value) $(. $field)+) }
    }};
}
pub(crate) use at;

impl<T> Value<T> {
    /// # Safety
    /// `at` came from a map, and is not null.
    #[inline(always)]
    pub unsafe fn new(at: *mut T) -> Self {
        // SAFETY: the caller's word.
        Self(unsafe { NonNull::new_unchecked(at) })
    }

    /// What a global function was given; `None` of null, which the verifier wants to see tested.
    ///
    /// # Safety
    /// `at` is null, or came from a map.
    #[inline(always)]
    pub unsafe fn given(at: *mut T) -> Option<Self> {
        NonNull::new(at).map(Self)
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T, const N: usize> Value<[T; N]> {
    /// The element at `index`; the first if there is no such. Nothing is left of the test where the compiler sees that there is,
    /// as in a loop over them.
    #[inline(always)]
    pub fn at(self, index: usize) -> Value<T> {
        let index = if index < N { index } else { 0 };
        // SAFETY: an element of a value is within it.
        unsafe { Value::new(self.as_ptr().cast::<T>().add(index)) }
    }

    /// The element at `index`, masked, so that the verifier sees that it is one of them.
    #[inline(always)]
    pub fn masked(self, index: u64) -> Value<T> {
        // SAFETY: as the mask has it, an element of the value, and within it.
        unsafe { Value::new(self.as_ptr().cast::<T>().add(within::<N>(index))) }
    }

    /// The element at `index`, masked so, and the one after it.
    #[inline(always)]
    pub fn masked_pair(self, index: u64) -> Value<[T; 2]> {
        const { assert!(1 << N.ilog2() < N) };
        // SAFETY: as the mask has it, there are two elements from there on.
        unsafe { Value::new(self.as_ptr().cast::<T>().add(within::<N>(index)).cast()) }
    }
}

/// Made of integers without padding: any bits are a value, those that come of two writes at one time too.
///
/// # Safety
/// It is.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($type:ty),+) => {
        $(
            // SAFETY: see its fields.
            unsafe impl $crate::value::Plain for $type {}
        )+
    };
}
pub(crate) use plain;

plain!(u8, u16, u32, u64, i32);

// SAFETY: its elements are.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

impl<T: Plain> Value<T> {
    /// Reads it here and now, whoever else writes it.
    #[inline(always)]
    pub fn load(self) -> T {
        // SAFETY: a value, see the module.
        unsafe { self.0.read_volatile() }
    }

    /// Writes it here and now.
    #[inline(always)]
    pub fn store(self, value: T) {
        // SAFETY: as in `load`.
        unsafe { self.0.write_volatile(value) };
    }

    /// Reads it where the compiler likes to: what nobody else writes at that time, or whatever it is.
    #[inline(always)]
    pub fn get(self) -> T {
        // SAFETY: as in `load`.
        unsafe { self.0.read() }
    }

    /// Writes it where the compiler likes to: what nobody else looks at before it is said to be there.
    #[inline(always)]
    pub fn set(self, value: T) {
        // SAFETY: as in `load`.
        unsafe { self.0.write(value) };
    }
}

// BPF (v3) has fetch-add, exchange and compare-exchange (5.12), but the target's `core` offers no `AtomicU64` methods for
// them.

impl Value<u64> {
    /// Adds and returns the value before.
    #[inline(always)]
    pub fn add(self, value: u64) -> u64 {
        // SAFETY: as in `load`; an integer lies at a multiple of its size.
        unsafe { atomic_xadd::<u64, u64, { SeqCst }>(self.as_ptr(), value) }
    }

    /// Subtracts and returns the value before.
    #[inline(always)]
    pub fn sub(self, value: u64) -> u64 {
        self.add(value.wrapping_neg())
    }

    /// Stores and returns the value before.
    #[inline(always)]
    pub fn swap(self, value: u64) -> u64 {
        // SAFETY: as in `add`.
        unsafe { atomic_xchg::<u64, { SeqCst }>(self.as_ptr(), value) }
    }

    /// Stores `new` if the value is `old`; says whether it did.
    #[inline(always)]
    pub fn replace(self, old: u64, new: u64) -> bool {
        // SAFETY: as in `add`.
        unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(self.as_ptr(), old, new).1 }
    }

    /// Raises the value to at least `value`.
    #[inline(always)]
    pub fn raise(self, value: u64) {
        let mut mine = value;
        let mut tries = 0;
        // Whoever takes a larger value out by exchanging has to put it back; so the largest is never lost, only
        // late. Eight rounds would need eight larger values racing on as many CPUs.
        while tries < 8 {
            if self.load() >= mine {
                return;
            }
            let before = self.swap(mine);
            if before <= mine {
                return;
            }
            mine = before;
            tries += 1;
        }
    }
}

impl Value<u32> {
    /// Adds modulo 2^32, and returns the value before.
    #[inline(always)]
    pub fn add(self, value: u32) -> u32 {
        // SAFETY: as for `u64`.
        unsafe { atomic_xadd::<u32, u32, { SeqCst }>(self.as_ptr(), value) }
    }

    /// Subtracts modulo 2^32.
    #[inline(always)]
    pub fn sub(self, value: u32) {
        self.add(value.wrapping_neg());
    }
}

/// A map whose values are looked up.
pub trait Lookup<Key> {
    type Found;

    fn value(&self, key: Key) -> Option<Value<Self::Found>>;
}

impl<T> Lookup<u32> for Array<T> {
    type Found = T;

    #[inline(always)]
    fn value(&self, key: u32) -> Option<Value<T>> {
        // SAFETY: from the map; what is found is not null.
        self.get_ptr_mut(key).map(|at| unsafe { Value::new(at) })
    }
}

impl<T> Lookup<u32> for PerCpuArray<T> {
    type Found = T;

    #[inline(always)]
    fn value(&self, key: u32) -> Option<Value<T>> {
        // SAFETY: as of an array.
        self.get_ptr_mut(key).map(|at| unsafe { Value::new(at) })
    }
}

impl<K, V, B: Borrow<K>> Lookup<B> for HashMap<K, V> {
    type Found = V;

    #[inline(always)]
    fn value(&self, key: B) -> Option<Value<V>> {
        // SAFETY: as of an array.
        self.get_ptr_mut(key).map(|at| unsafe { Value::new(at) })
    }
}

/// By the chunk, and the place in it.
impl<T, const ENTRIES: usize, const FLAGS: usize> Lookup<(u32, u32)>
    for btf_maps::ArrayOfMaps<btf_maps::Array<T, ENTRIES, FLAGS>, 1>
{
    type Found = T;

    #[inline(always)]
    fn value(&self, (chunk, place): (u32, u32)) -> Option<Value<T>> {
        // SAFETY: as of an array; a chunk stays in its map.
        self.get_value_ptr_mut(chunk, &place).map(|at| unsafe { Value::new(at) })
    }
}
