//! Types and arithmetic that heaptrace's BPF programs and its userspace share.
//!
//! Everything that crosses the boundary is `#[repr(C)]`, has explicit padding and a size assertion, and holds
//! no `bool`, `usize` or `Option`. Nothing here knows aya or the kernel's helpers.
#![no_std]

pub mod check;
pub mod counter;
pub mod event;
pub mod frees;
pub mod function;
pub mod growth;
pub mod judged;
pub mod lifetimes;
pub mod live;
pub mod log;
pub mod probe;
pub mod record;
pub mod sampling;
pub mod settings;
pub mod share;
pub mod sizes;
pub mod stack;
pub mod statistics;
pub mod tree;
pub mod unwind;
