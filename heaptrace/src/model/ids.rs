//! Newtypes for the numbers that would otherwise be mistaken for one another.

use std::fmt;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The index into its table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// Index into [`super::Profile::modules`].
    ModuleId
);
index!(
    /// Index into [`super::Profile::locations`].
    LocationId
);
index!(
    /// Index into [`super::Profile::frames`].
    FrameId
);
index!(
    /// Index into [`super::Profile::stacks`].
    StackId
);
index!(
    /// Index into [`super::Profile::processes`].
    ProcessId
);
index!(
    /// Index into [`super::Profile::sites`].
    SiteId
);
index!(
    /// Index into [`super::Profile::growth`].
    GrowthId
);

index!(
    /// Index into [`super::Profile::threads`].
    ThreadId
);

/// A GNU build ID (ELF note `NT_GNU_BUILD_ID`), any length; shown in lower-case hex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId(pub Vec<u8>);

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}
