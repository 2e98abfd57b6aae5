//! heaptrace's BPF programs: the entry points, a few lines each.
#![no_std]
#![no_main]

use aya_ebpf::{macros::uprobe, programs::ProbeContext};

#[uprobe]
pub fn placeholder(_ctx: ProbeContext) -> u32 {
    0
}

/// The licence the kernel checks before it lets a program call GPL-only helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Code that can panic does not pass the verifier; the compiler wants a handler all the same.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
