//! The traced program's memory: its stack through a window, because each call of the kernel's copy function is
//! dear, and the addresses that return probes have replaced.

use heaptrace_common::unwind::{memo::MEMO_WORDS, step::Memory};

use crate::{
    helpers::{self, fill_from_user, read_kernel_to, read_user_to},
    maps::setting,
    mask::mask,
    value::{Value, at},
};

/// Bytes that are read at once; 512 and 2,048 were both slower.
const WINDOW: usize = 1024;

/// How far the window reaches below what was asked for: callers' registers lie below the return address.
const BELOW: u64 = 64;

/// Return probes that one thread may be in at one time; further ones out are not looked at (the kernel's own
/// limit is 64, `MAX_URETPROBE_DEPTH`).
const RETURN_INSTANCES: u32 = 64;

const PAGE: u64 = 4096;

/// What of the stack was read last.
#[repr(C)]
pub struct Window {
    base: u64,
    /// Where a read of 8 bytes can begin, counted from `base`.
    readable: u64,
    bytes: [u64; WINDOW / 8],
    /// Words that were read, their addresses before their contents; more than there is room for if what was read does not
    /// tell all.
    count: u64,
    read: [[u64; 2]; MEMO_WORDS],
}

impl Window {
    #[inline(always)]
    pub fn clear(window: Value<Self>) {
        // Not the base, too: of both LLVM makes a call of memset.
        at!(window.readable).set(0);
    }

    #[inline(always)]
    pub fn forget_reads(window: Value<Self>) {
        at!(window.count).set(0);
    }

    /// See the field.
    #[inline(always)]
    pub fn count(window: Value<Self>) -> u64 {
        at!(window.count).get()
    }

    /// Address and content of the `n`th word that was read.
    #[inline(always)]
    pub fn word_read(window: Value<Self>, n: u64) -> Value<[u64; 2]> {
        at!(window.read).masked(n)
    }
}

/// See the module.
pub struct UserMemory(pub Value<Window>);

impl UserMemory {
    #[inline(always)]
    fn word(&self, offset: u64) -> u64 {
        // The mask keeps it inside and, as offsets are multiples of 8, changes nothing.
        let offset = mask::<{ WINDOW as u64 - 8 }>(offset);
        let window = self.0;
        let bytes = at!(window.bytes);
        // SAFETY: so masked, it is the place of a word.
        unsafe { bytes.as_ptr().byte_add(offset).cast::<u64>().read() }
    }

    #[inline(always)]
    fn fill(&mut self, base: u64, length: u64) -> bool {
        let window = self.0;
        if !fill_from_user(at!(window.bytes), length, base) {
            return false;
        }
        at!(window.base).set(base);
        at!(window.readable).set(length - 7);
        true
    }
}

impl UserMemory {
    /// Makes the window hold the word at `address`, if it can be read; whether `place` is given where it lies then.
    #[inline(always)]
    fn reach(&mut self, address: u64, place: &mut u64) -> bool {
        let window = self.0;
        let offset = address.wrapping_sub(at!(window.base).get());
        if offset < at!(window.readable).get() && offset & 7 == 0 {
            *place = offset;
            return true;
        }
        if self.fill(address.wrapping_sub(BELOW), WINDOW as u64) {
            *place = BELOW;
            return true;
        }
        // The stack's end, or a page that is not resident: what is left of this page.
        let mut left = PAGE - (address & (PAGE - 1));
        if left > WINDOW as u64 {
            left = WINDOW as u64;
        }
        if left >= 8 && self.fill(address, left) {
            *place = 0;
            return true;
        }
        at!(window.readable).set(0);
        false
    }

    /// Whether `content` lies at `address`.
    #[inline(always)]
    pub fn is(&mut self, address: u64, content: u64) -> bool {
        let mut place = 0;
        self.reach(address, &mut place) && self.word(place) == content
    }

    /// The walk depends on more than the words that it has read.
    #[inline(always)]
    fn cannot_be_remembered(&mut self) {
        let window = self.0;
        at!(window.count).set(MEMO_WORDS as u64 + 1);
    }

    #[inline(always)]
    fn note(&mut self, address: u64, content: u64) {
        let window = self.0;
        let count = at!(window.count).get();
        if count < MEMO_WORDS as u64 {
            at!(window.read).masked(count).set([address, content]);
        }
        // Beyond, it stays one that is too many.
        if count <= MEMO_WORDS as u64 {
            at!(window.count).set(count + 1);
        }
    }
}

impl Memory for UserMemory {
    #[inline(always)]
    fn read(&mut self, address: u64) -> Option<u64> {
        let mut place = 0;
        if !self.reach(address, &mut place) {
            self.cannot_be_remembered();
            return None;
        }
        let content = self.word(place);
        self.note(address, content);
        Some(content)
    }

    #[inline(always)]
    fn read_code(&mut self, address: u64) -> u16 {
        self.cannot_be_remembered();
        let mut code = 0u16;
        // A failure leaves 0.
        read_user_to(&mut code, address);
        code
    }

    #[inline(always)]
    fn replaced_return(&mut self, slot: u64) -> Option<u64> {
        self.cannot_be_remembered();
        match uw_replaced_return(slot) {
            0 => None,
            address => Some(address),
        }
    }
}

/// Where the call returns to whose return address lies at `slot`, whatever return probes of other tracers have put in its
/// place; 0 if it cannot be read. What they put there is the beginning of a page (`uprobe_get_trampoline_vaddr`,
/// kernel/events/uprobes.c), where few calls return to: the search is spared otherwise.
#[inline(always)]
pub fn return_address(slot: u64) -> u64 {
    let mut address = 0u64;
    if !read_user_to(&mut address, slot) {
        return 0;
    }
    if address & (PAGE - 1) != 0 {
        return address;
    }
    match uw_replaced_return(slot) {
        0 => address,
        replaced => replaced,
    }
}

#[inline(always)]
fn kernel_word(at: u64) -> u64 {
    let mut value = 0u64;
    // A failure leaves 0, which ends the search.
    read_kernel_to(&mut value, at);
    value
}

/// The return address that a return probe of the current thread replaced at `slot` of the stack; 0 if there is
/// none. The kernel keeps them in `current->utask->return_instances` (kernel/events/uprobes.c). A global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn uw_replaced_return(slot: u64) -> u64 {
    if setting!(has_return_instances) == 0 {
        return 0;
    }
    let task = helpers::task();
    let utask = kernel_word(task.wrapping_add(u64::from(setting!(returns.task_utask))));
    if utask == 0 {
        return 0;
    }
    let mut instance = kernel_word(utask.wrapping_add(u64::from(setting!(returns.utask_return_instances))));
    let mut n = 0;
    while n < RETURN_INSTANCES {
        if instance == 0 {
            return 0;
        }
        if kernel_word(instance.wrapping_add(u64::from(setting!(returns.instance_stack)))) == slot {
            return kernel_word(instance.wrapping_add(u64::from(setting!(returns.instance_address))));
        }
        instance = kernel_word(instance.wrapping_add(u64::from(setting!(returns.instance_next))));
        n += 1;
    }
    0
}
