//! Suppressions, and which stacks fit them.

use super::frame::{Asked, Frame};

/// A frame's patterns, of all that there are, which fit it: numbers in order.
pub type Fitting = Box<[u32]>;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The file that it stands in, as its user names it, and the line where it begins.
    pub file: String,
    pub line: usize,
    pub name: String,
    pub(super) steps: Vec<Step>,
    /// It begins where an allocation function was called, and not anywhere.
    pub(super) is_from_innermost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame that this pattern fits.
    Frame(u32),
    /// Any frames, or none.
    Any,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions {
    frames: Vec<Frame>,
    pub(super) all: Vec<Suppression>,
    /// Entries of valgrind's for something else than leaks.
    pub others: usize,
}

impl Suppressions {
    pub fn get(&self, number: usize) -> Option<&Suppression> {
        self.all.get(number)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The patterns that fit a frame. It is asked for once for each frame of many stacks.
    pub fn fitting(&self, frame: &Asked<'_>) -> Fitting {
        let bare = super::super::names::bare(frame.function);
        (0..).zip(&self.frames).filter(|(_, of)| of.fits(frame, &bare)).map(|(number, _)| number).collect()
    }

    /// The number of the first that a stack is one of, innermost frame first, the allocation function itself before it.
    /// `allocators`: so many frames behind that are of allocators, too.
    pub fn first_of(&self, stack: &[&[u32]], allocators: usize) -> Option<usize> {
        self.all.iter().position(|of| {
            let starts = if of.is_from_innermost { allocators + 1 } else { 1 };
            (0..starts.min(stack.len())).any(|start| begins(&of.steps, &stack[start..]))
        })
    }

    /// The number of a pattern.
    pub(super) fn intern(&mut self, frame: Frame) -> u32 {
        let known = self.frames.iter().position(|of| *of == frame);
        // A file has a bound, and so have its lines.
        known.unwrap_or_else(|| {
            self.frames.push(frame);
            self.frames.len() - 1
        }) as u32
    }
}

/// Whether a stack begins as `steps` say: what is behind them may be anything.
fn begins(steps: &[Step], stack: &[&[u32]]) -> bool {
    let (mut step, mut at) = (0, 0);
    // The last `...`, and how many frames it has taken so far.
    let mut any: Option<(usize, usize)> = None;
    loop {
        match steps.get(step) {
            None => return true,
            Some(Step::Any) => {
                any = Some((step + 1, at));
                step += 1;
            }
            Some(Step::Frame(wanted))
                if stack.get(at).is_some_and(|frame| frame.binary_search(wanted).is_ok()) =>
            {
                step += 1;
                at += 1;
            }
            Some(Step::Frame(_)) => {
                let Some((behind, taken)) = &mut any else { return false };
                *taken += 1;
                if *taken > stack.len() {
                    return false;
                }
                (step, at) = (*behind, *taken);
            }
        }
    }
}
