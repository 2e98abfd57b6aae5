//! Rust's collections over the system allocator, with a ledger in between.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::hint::black_box;

#[repr(C)]
struct Block {
    address: *const c_void,
    size: usize,
    site: c_int,
    generation: c_int,
}

unsafe extern "C" {
    fn ledger_site(name: *const c_char) -> c_int;
    fn ledger_alloc(site: c_int, p: *const c_void, n: usize);
    fn ledger_free(p: *const c_void);
    fn ledger_take(p: *const c_void) -> Block;
    fn ledger_settle(taken: Block);
    fn ledger_start();
    fn ledger_write();
    fn _exit(code: c_int) -> !;
}

thread_local! {
    static SITE: Cell<c_int> = const { Cell::new(-1) };
}

struct Ledgered;

fn enter(p: *mut u8, n: usize) -> *mut u8 {
    let site = match SITE.get() {
        -1 => unsafe { ledger_site(c"elsewhere".as_ptr()) },
        site => site,
    };
    unsafe { ledger_alloc(site, p.cast(), n) };
    p
}

// These are the direct callers of the malloc family, told by their prefix from the standard library's own calls,
// which go past the global allocator.
#[inline(never)]
fn ledgered_alloc(layout: Layout) -> *mut u8 {
    enter(unsafe { System.alloc(layout) }, layout.size())
}

#[inline(never)]
fn ledgered_alloc_zeroed(layout: Layout) -> *mut u8 {
    enter(unsafe { System.alloc_zeroed(layout) }, layout.size())
}

#[inline(never)]
fn ledgered_realloc(p: *mut u8, layout: Layout, n: usize) -> *mut u8 {
    let taken = unsafe { ledger_take(p.cast()) };
    let moved = unsafe { System.realloc(p, layout, n) };
    unsafe { ledger_settle(taken) };
    enter(moved, n)
}

// SAFETY: every call is the system allocator's, unchanged.
unsafe impl GlobalAlloc for Ledgered {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ledgered_alloc(layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ledgered_alloc_zeroed(layout)
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        unsafe { ledger_free(p.cast()) };
        unsafe { System.dealloc(p, layout) }
    }
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, n: usize) -> *mut u8 {
        ledgered_realloc(p, layout, n)
    }
}

#[global_allocator]
static GLOBAL: Ledgered = Ledgered;

/// Runs `work` with its allocations entered under `name`.
#[inline(always)]
fn at<T>(name: &CStr, work: impl FnOnce() -> T) -> T {
    let before = SITE.replace(unsafe { ledger_site(name.as_ptr()) });
    let result = black_box(work());
    SITE.set(before);
    result
}

#[inline(never)]
fn site_vec(n: u32) -> Vec<u32> {
    at(c"site_vec", || {
        let mut numbers = Vec::new();
        (0..n).for_each(|i| numbers.push(black_box(i)));
        numbers
    })
}

#[inline(never)]
fn site_shrink(numbers: &mut Vec<u32>) {
    at(c"site_shrink", || numbers.shrink_to_fit());
}

#[inline(never)]
fn site_box(fill: u8) -> Box<[u8; 1231]> {
    at(c"site_box", || Box::new(black_box([fill; 1231])))
}

#[inline(never)]
fn site_string(n: usize) -> String {
    at(c"site_string", || (0..n).map(|i| char::from(b'a' + (i % 26) as u8)).collect())
}

#[inline(never)]
fn site_map(n: u64) -> HashMap<u64, [u8; 61]> {
    at(c"site_map", || (0..n).map(|i| (i, [i as u8; 61])).collect())
}

#[inline(never)]
fn site_zeroed(n: usize) -> Vec<u8> {
    at(c"site_zeroed", || vec![0; n])
}

#[repr(align(256))]
struct Wide(#[expect(dead_code, reason = "only its size matters")] [u8; 256]);

#[inline(never)]
fn site_aligned(n: usize) -> Vec<Wide> {
    at(c"site_aligned", || (0..n).map(|i| Wide([i as u8; 256])).collect())
}

fn work(keep: bool) {
    let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();
    for i in 0..60 {
        let mut grown = site_vec(101 + i);
        site_shrink(&mut grown);
        let parts: [Box<dyn std::any::Any>; 6] = [
            Box::new(grown),
            site_box(i as u8),
            Box::new(site_string(301 + i as usize)),
            Box::new(site_map(19 + u64::from(i))),
            Box::new(site_zeroed(5003 + 2 * i as usize)),
            Box::new(site_aligned(3)),
        ];
        for (which, part) in parts.into_iter().enumerate() {
            if keep && (i as usize + which) % 3 == 0 {
                kept.push(part);
            }
        }
    }
    std::mem::forget(kept);
}

fn main() {
    unsafe { ledger_start() };
    work(true);
    let threads: Vec<_> = (0..4).map(|i| std::thread::spawn(move || work(i % 2 == 0))).collect();
    for thread in threads {
        thread.join().expect("the thread works");
    }
    // SAFETY: nothing else runs; leaving at once keeps the ledger and the tracer's view the same.
    unsafe {
        ledger_write();
        _exit(0)
    }
}
