//! Closures, growing collections and a thread on the way to an allocation. Each block has a size of its own.
use std::collections::HashMap;
use std::hint::black_box;

unsafe extern "C" {
    fn ledger_start();
}

#[inline(never)]
fn boxed<const N: usize>() -> Box<[u8; N]> {
    black_box(Box::new(black_box([1; N])))
}

#[inline(never)]
fn call(work: &dyn Fn(usize) -> Vec<u8>, n: usize) -> Vec<u8> {
    black_box(work(black_box(n)))
}

#[inline(never)]
fn apply<T>(depth: usize, work: impl FnOnce() -> T) -> T {
    black_box(depth);
    black_box(work())
}

/// Twice the capacity at each growth, by realloc.
#[inline(never)]
fn grow(start: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(start);
    (0..start * 5).for_each(|i| bytes.push(black_box(i as u8)));
    black_box(bytes)
}

#[inline(never)]
fn table(n: u64) -> HashMap<u64, [u8; 61]> {
    let mut table = HashMap::with_capacity(1000);
    (0..n).for_each(|i| drop(table.insert(i, [i as u8; 61])));
    black_box(table)
}

#[inline(never)]
fn panics(n: usize) -> usize {
    struct Guard(usize);
    impl Drop for Guard {
        fn drop(&mut self) {
            drop(black_box(Vec::<u8>::with_capacity(self.0)));
        }
    }
    let caught = std::panic::catch_unwind(|| {
        let _guard = Guard(black_box(n));
        std::panic::resume_unwind(Box::new(7_usize));
    });
    usize::from(caught.is_err())
}

fn main() {
    // SAFETY: the function takes nothing and waits for the harness.
    unsafe { ledger_start() };
    boxed::<24001>();
    let more = black_box(3);
    call(&|n| Vec::with_capacity(n + more), 24100);
    call(&|n| vec![0; n + more], 24200);
    apply(1, || apply(2, || apply(3, || boxed::<24003>())));
    grow(24301);
    table(9000);
    panics(24401);
    let mut names: Vec<String> = (0..40).map(|i| "x".repeat(24501 + (i * 29) % 40)).collect();
    names.sort_by(|a, b| a.len().cmp(&b.len()));
    black_box(names);
    std::thread::spawn(|| {
        grow(25301);
        boxed::<25001>()
    })
    .join()
    .expect("the thread works");
}
