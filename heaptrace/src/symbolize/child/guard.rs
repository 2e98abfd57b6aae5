//! Files that others made, read by a library that may panic over them: that costs names, not the recording.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `read` gives, or `None` if it panics, which is not reported: to the user it is a file without names.
pub fn guarded<T>(read: impl FnOnce() -> Option<T>) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let found = panic::catch_unwind(AssertUnwindSafe(read));
    QUIET.set(before);
    found.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_no_answer_and_what_follows_is_reported_again() {
        assert_eq!(guarded(|| Some(7)), Some(7));
        assert_eq!(guarded::<u8>(|| panic!("over a file")), None);
        assert!(!QUIET.get());
    }
}
