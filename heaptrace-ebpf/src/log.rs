//! Lines for people who look into the programs themselves, from the rare and odd places: `log!`. Where the setting is off,
//! the kernel drops the code at load, all but the look at the setting, and userspace sees to it that the maps are not made
//! (`bpf/log.rs`).

use aya_ebpf::{macros::map, maps::Array};
use heaptrace_common::{
    counter::Counter,
    log::{Budget, LINES, PERIOD_NS},
};

use crate::{
    helpers::now_ns,
    maps::setting,
    records,
    value::{Lookup, at},
};

/// How many lines there were of late, by the counter that they are about.
#[map]
pub static LOG_BUDGETS: Array<Budget> = Array::with_max_entries(Counter::COUNT as u32, 0);

#[inline(always)]
pub fn is_on() -> bool {
    setting!(log) != 0
}

/// The process that a line is about: the current one, if it may have another line of what `counter` counts; else 0.
#[inline(always)]
pub fn admit(counter: Counter) -> u32 {
    let Some(budget) = LOG_BUDGETS.value(counter as u32) else { return 0 };
    let period = now_ns() / PERIOD_NS;
    let before = at!(budget.period).load();
    if before != period && at!(budget.period).replace(before, period) {
        at!(budget.lines).store(0);
    }
    if at!(budget.lines).add(1) >= LINES {
        at!(budget.left_out).add(1);
        return 0;
    }
    records::current().0
}

/// A line of what a counter counts, and what it is about: at most five numbers, the first of which is the process by itself.
/// A function of its own, so that what it keeps on the stack is not its caller's.
macro_rules! log {
    ($counter:expr, $text:literal $(, $name:ident = $value:expr)*) => {
        if $crate::log::is_on() {
            #[inline(never)]
            fn line($($name: u64),*) {
                let process = $crate::log::admit($counter);
                if process != 0 {
                    aya_log_ebpf::warn!(&(), $text, process $(, $name)*);
                }
            }
            line($($value),*);
        }
    };
}
pub(crate) use log;
