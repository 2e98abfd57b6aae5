//! Stacks as lists of names, for screens.

use super::labels::Labels;
use crate::model::{Profile, StackId};

/// What the frames of a profile's stacks are called.
pub struct Frames<'a>(Labels<'a>);

impl<'a> Frames<'a> {
    pub fn new(profile: &'a Profile) -> Self {
        Self(Labels::new(profile))
    }

    /// The frames of a stack, innermost first, never none.
    pub fn of(&self, stack: StackId) -> Vec<String> {
        let mut labels = Vec::new();
        self.0.of_stack(Some(stack), &mut labels);
        labels.into_iter().map(|label| self.0.get(label).describe()).collect()
    }
}
