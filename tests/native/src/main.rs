//! Small blocks beside large ones, in several threads, over an allocator that tells of its samples.
//! usage: native-samples ROUNDS [THREADS [INTERVAL]]

use libdd_profiling_heap_allocator::SampledAllocator;
use std::{
    alloc::{Layout, System, alloc, dealloc},
    env,
    ffi::{CStr, c_char, c_int, c_void},
    hint::black_box,
    thread,
};

#[global_allocator]
static ALLOCATOR: SampledAllocator<System> = SampledAllocator::<System>::DEFAULT;

unsafe extern "C" {
    fn ledger_site(name: *const c_char) -> c_int;
    fn ledger_alloc(site: c_int, p: *const c_void, n: usize);
    fn ledger_free(p: *const c_void);
    fn ledger_start();
    fn ledger_write();
    fn _exit(code: c_int) -> !;
}

const KEPT: usize = 1 << 10;

type Block = (*mut u8, usize);

fn layout(n: usize) -> Layout {
    Layout::from_size_align(n, 8).expect("a layout")
}

#[inline(always)]
fn block(name: &CStr, n: usize) -> Block {
    // SAFETY: not of 0 bytes; the ledger only looks at the address.
    unsafe {
        let p = black_box(alloc(layout(n)));
        ledger_alloc(ledger_site(name.as_ptr()), p.cast(), n);
        (p, n)
    }
}

fn release((p, n): Block) {
    // SAFETY: from `block`, and nobody has it any more.
    unsafe {
        ledger_free(p.cast());
        dealloc(p, layout(n));
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
fn site_small(n: usize) -> Block {
    block(c"site_small", n)
}

#[inline(never)]
#[unsafe(no_mangle)]
fn site_periodic() -> Block {
    block(c"site_periodic", 65536)
}

#[inline(never)]
#[unsafe(no_mangle)]
fn site_large() -> Block {
    block(c"site_large", 4_000_000)
}

#[inline(never)]
#[unsafe(no_mangle)]
fn site_leak() -> Block {
    block(c"site_leak", 200)
}

fn work(rounds: usize) {
    let mut kept: Vec<Option<Block>> = vec![None; KEPT];
    for i in 0..rounds {
        let at = i * 7919 % KEPT;
        if let Some(block) = kept[at].take() {
            release(block);
        }
        kept[at] = Some(site_small(16 + i % 97));
        if i % 7 == 0 {
            release(site_periodic());
        }
        if i % 3 == 0 {
            site_leak();
        }
        if i % 1000 == 0 {
            site_large();
        }
    }
    std::mem::forget(kept);
}

fn main() {
    let numbers: Vec<usize> = env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let rounds = number(0, 10_000);
    libdd_profiling_heap_sampler::set_default_sampling_distance(number(2, 0) as u64);
    // SAFETY: no pointers.
    unsafe { ledger_start() };
    // All in threads: the same stacks.
    let threads: Vec<_> = (0..number(1, 1)).map(|_| thread::spawn(move || work(rounds))).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread"));
    // SAFETY: no pointers.
    unsafe {
        ledger_write();
        _exit(0)
    }
}
