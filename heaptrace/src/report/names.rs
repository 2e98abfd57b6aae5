//! Stacks as lists of names, for screens and lines.

use super::labels::{Label, Labels};
use crate::{
    attribution::Attribution,
    model::{Profile, StackId},
    units::base_name,
};

/// What the C library is called: its inner frames say what a system call's name says already.
const LIBC: [&str; 5] = ["libc.so", "libc-", "libc.musl", "ld-linux", "ld-musl"];

/// The innermost ones, wherever they are, without their underscores.
const WRAPPERS: [&str; 7] = ["brk", "sbrk", "mmap", "mmap64", "munmap", "mremap", "syscall"];

/// What the frames of a profile's stacks are called.
pub struct StackNames<'a> {
    profile: &'a Profile,
    labels: Labels<'a>,
}

impl<'a> StackNames<'a> {
    /// Whole names of all.
    pub fn new(profile: &'a Profile) -> Self {
        Self { profile, labels: Labels::new(profile) }
    }

    /// As `attribution` has them.
    pub fn attributed(profile: &'a Profile, attribution: &'a Attribution) -> Self {
        Self { profile, labels: Labels::attributed(profile, attribution) }
    }

    /// The frames of a stack, innermost first, never none.
    pub fn of(&self, stack: StackId) -> Vec<String> {
        self.labels.walk(Some(stack)).map(|label| self.labels.describe(label)).collect()
    }

    /// How many of the inner frames of an allocation's stack are not the user's. Never all.
    pub fn folded(&self, stack: StackId) -> usize {
        self.labels.folded(Some(stack))
    }

    /// How many of the inner frames of a system call's stack say nothing: those of the C library, or at least its
    /// wrapper of the call where nothing else is there. Never all.
    pub fn inner(&self, stack: StackId) -> usize {
        let all = self.all(stack);
        let inner = |is_inner: &dyn Fn(&Label<'_>) -> bool| {
            Some(all.iter().take_while(|label| is_inner(label)).count()).filter(|inner| *inner < all.len())
        };
        let outside = inner(&|label| is_wrapper(label) || self.is_libc(label));
        outside.or_else(|| inner(&is_wrapper)).unwrap_or(0)
    }

    /// The names of the others, without source lines. A part of a function that was inlined into it has its name, too,
    /// and is named with it.
    pub fn outside(&self, stack: StackId) -> Vec<&str> {
        let useful = self.all(stack).into_iter().skip(self.inner(stack));
        let mut names: Vec<&str> = useful.map(|label| label.name.as_ref()).collect();
        names.dedup();
        names
    }

    fn all(&self, stack: StackId) -> Vec<&Label<'a>> {
        let mut all = Vec::new();
        self.labels.of_stack(Some(stack), &mut all);
        all.into_iter().map(|id| self.labels.get(id)).collect()
    }

    fn is_libc(&self, label: &Label<'_>) -> bool {
        let module = label.module.and_then(|module| self.profile.modules.get(module.index()));
        let name = module.map_or("", |module| base_name(&module.path));
        LIBC.iter().any(|libc| name.starts_with(libc))
    }
}

fn is_wrapper(label: &Label<'_>) -> bool {
    let name = label.name.strip_prefix("__GI_").unwrap_or(&label.name);
    WRAPPERS.contains(&name.trim_start_matches('_'))
}
