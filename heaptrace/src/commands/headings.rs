//! What the options of a command are grouped by in its help.

pub(crate) const TARGETS: &str = "Targets";
pub(crate) const WHAT: &str = "What to trace";
pub(crate) const OUTPUT: &str = "Output";
pub(crate) const LIMITS: &str = "Limits";
pub(crate) const SHOWN: &str = "What to show";
