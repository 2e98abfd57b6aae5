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

    /// Whose a frame is, by its function, the name of its file and the path of its source; `None` for the user's.
    pub fn class_of(&self, function: &str, file: &str, source: Option<&str>) -> Option<Class> {
        self.hidden.as_ref()?.class_of(&names::bare(function), file, source)
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
        fold(frames.iter().map(|(function, file)| all.class_of(function, file, None)))
    }

    #[test]
    fn the_built_in_patterns_can_be_read() {
        let mut patterns = Patterns::default();
        assert_eq!(patterns.add(BUILT_IN, Class::Library), Ok(()));
        assert!(patterns.class_of("zmalloc", "redis-server", None) == Some(Class::Allocator));
        assert_eq!(patterns.class_of("_PyEval_EvalFrameDefault", "x", None), Some(Class::Interpreter));
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
    fn where_names_are_short_the_path_of_the_source_tells_the_library() {
        let all = Attribution::default();
        let std = "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library";
        let local =
            "/home/user/.rustup/toolchains/stable/lib/rustlib/src/rust/library/core/src/ops/function.rs";
        for (function, source, class) in [
            ("alloc", format!("{std}/alloc/src/alloc.rs"), Some(Class::Allocator)),
            ("try_allocate_in<...>", format!("{std}/alloc/src/raw_vec/mod.rs"), Some(Class::Library)),
            ("call_once<fn(), ()>", local.to_owned(), Some(Class::Library)),
            ("allocate", "/usr/include/c++/12/bits/new_allocator.h".to_owned(), Some(Class::Library)),
            ("keep", "/srv/app/library/src/cache.rs".to_owned(), None),
        ] {
            assert_eq!(all.class_of(function, "app", Some(&source)), class, "{source}");
        }
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
        assert_eq!(more.class_of("SessionTable::open(int)", "service", None), Some(Class::Asked));
        assert_eq!(more.class_of("malloc", "", None), Some(Class::Allocator));
        let raw = Attribution::new(true, None, true).expect("no pattern");
        assert_eq!((raw.class_of("malloc", "", None), raw.hides()), (None, false));
        assert_eq!(
            raw.shown("std::vector<int, std::allocator<int> >::f()"),
            "std::vector<int, std::allocator<int> >::f()"
        );
        assert!(Attribution::new(false, Some("[x]"), false).is_err());
    }
}
