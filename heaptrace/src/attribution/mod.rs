//! Whose blocks are: which frames of a stack are not the user's, so that its site is the first that is, and what of long names
//! is shown. Pure.

mod forwarders;
mod names;
mod patterns;
mod suppressions;

pub use forwarders::Forwarders;
pub use patterns::{BadPatterns, Class};
pub use suppressions::{Asked, BadSuppressions, Suppression, Suppressions};

use patterns::Patterns;
use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

/// The patterns that are built in.
const BUILT_IN: &str = include_str!("hidden-frames.txt");

static DEFAULT: LazyLock<Arc<Patterns>> = LazyLock::new(|| {
    let mut patterns = Patterns::default();
    // A test reads it.
    let _ = patterns.add(BUILT_IN, Class::Library);
    Arc::new(patterns)
});

/// How stacks are shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// `None` where all frames are shown.
    hidden: Option<Arc<Patterns>>,
    full_symbols: bool,
}

impl Default for Attribution {
    fn default() -> Self {
        Self { hidden: Some(Arc::clone(&DEFAULT)), full_symbols: false }
    }
}

impl Attribution {
    /// All frames, with their whole names.
    pub fn raw() -> Self {
        Self { hidden: None, full_symbols: true }
    }

    /// `raw_frames`: all frames are shown. `more`: hides what these patterns name, too. `full_symbols`: no name is shortened.
    ///
    /// # Errors
    /// If `more` holds what is no pattern.
    pub fn new(raw_frames: bool, more: Option<&str>, full_symbols: bool) -> Result<Self, BadPatterns> {
        let mut hidden = Arc::clone(&DEFAULT);
        if let Some(more) = more {
            Arc::make_mut(&mut hidden).add(more, Class::Asked)?;
        }
        Ok(Self { hidden: (!raw_frames).then_some(hidden), full_symbols })
    }

    /// Whether any frame may be hidden.
    pub fn hides(&self) -> bool {
        self.hidden.is_some()
    }

    /// Whose a frame is, by its function and the name of its file; `None` for the user's.
    pub fn class_of(&self, function: &str, file: &str) -> Option<Class> {
        self.hidden.as_ref()?.class_of(&names::bare(function), file)
    }

    /// A function's name as it is shown.
    pub fn shown<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.full_symbols { Cow::Borrowed(name) } else { names::shortened(name) }
    }
}

/// How many of a stack's frames are hidden, of these classes, innermost first: those before the first that is the user's. Where none
/// is, frames of the classes that are least sure are taken for the user's; all are shown where that helps nothing.
pub fn fold(classes: impl Iterator<Item = Option<Class>> + Clone) -> usize {
    for least_sure in [Class::Forwarder, Class::Interpreter, Class::Library, Class::Allocator, Class::Asked] {
        let is_users = |class: &Option<Class>| class.is_none_or(|class| class > least_sure);
        if let Some(first) = classes.clone().position(|class| is_users(&class)) {
            return first;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(frames: &[(&str, &str)]) -> usize {
        let all = Attribution::default();
        fold(frames.iter().map(|(function, file)| all.class_of(function, file)))
    }

    #[test]
    fn the_built_in_patterns_can_be_read() {
        let mut patterns = Patterns::default();
        assert_eq!(patterns.add(BUILT_IN, Class::Library), Ok(()));
        assert!(patterns.class_of("zmalloc", "redis-server") == Some(Class::Allocator));
        assert_eq!(patterns.class_of("_PyEval_EvalFrameDefault", "x"), Some(Class::Interpreter));
    }

    #[test]
    fn the_site_is_the_first_frame_that_is_the_users() {
        let frames = [
            ("operator new(unsigned long)", "libstdc++.so.6.0.30"),
            ("std::__new_allocator<Session>::allocate(unsigned long, void const*)", "service"),
            ("void std::vector<Session*>::_M_realloc_insert<Session* const&>(Session* const&)", "service"),
            ("SessionTable::open(int)", "service"),
            ("std::function<void ()>::operator()() const", "service"),
            ("main", "service"),
        ];
        assert_eq!(folded(&frames), 3);
        let rust = [
            ("alloc::alloc::alloc", "app"),
            ("alloc::raw_vec::RawVec<T,A>::grow_one", "app"),
            ("<app::Table as app::Store>::put", "app"),
        ];
        assert_eq!(folded(&rust), 2);
        assert_eq!(folded(&[("zmalloc", "redis-server"), ("sdsnewlen", "redis-server")]), 1);
        assert_eq!(folded(&[("main", "app"), ("malloc", "app")]), 0);
    }

    #[test]
    fn who_allocates_for_a_program_alone_is_shown_rather_than_nothing() {
        let python = [
            ("PyObject_Malloc", "python3.11"),
            ("list_resize", "python3.11"),
            ("_PyEval_EvalFrameDefault", "python3.11"),
            ("__libc_start_call_main", "libc.so.6"),
        ];
        assert_eq!(folded(&python), 1);
        let named = [python[0], python[2], ("py::serve:/srv/app.py", "")];
        assert_eq!(folded(&named), 2);
        assert_eq!(folded(&[("operator new(unsigned long)", "libstdc++.so.6"), ("std::f()", "app")]), 1);
        assert_eq!(folded(&[("malloc", "libc.so.6"), ("calloc", "libc.so.6")]), 0);
        assert_eq!(folded(&[]), 0);
    }

    #[test]
    fn more_can_be_hidden_or_nothing() {
        let more = Attribution::new(false, Some("SessionTable::*"), false).expect("a pattern");
        assert_eq!(more.class_of("SessionTable::open(int)", "service"), Some(Class::Asked));
        assert_eq!(more.class_of("malloc", ""), Some(Class::Allocator));
        let raw = Attribution::new(true, None, true).expect("no pattern");
        assert_eq!((raw.class_of("malloc", ""), raw.hides()), (None, false));
        assert_eq!(
            raw.shown("std::vector<int, std::allocator<int> >::f()"),
            "std::vector<int, std::allocator<int> >::f()"
        );
        assert!(Attribution::new(false, Some("[x]"), false).is_err());
    }
}
