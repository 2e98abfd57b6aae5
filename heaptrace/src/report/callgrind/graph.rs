//! Who calls whom, and what that comes to: stacks become functions with lines, and calls between them.
//!
//! A function that is in a stack several times is another one each time (`f`, `f'2`, `f'3`, from the outside inwards), as
//! callgrind itself does it: with all a function calls then nothing is counted twice.

use crate::model::ProcessId;
use crate::report::labels::{LabelId, Labels};
use crate::report::stacks::{Amounts, Row, Stacks, add};
use std::collections::HashMap;

/// What an entry of a table takes, with the room that tables have for more.
const ENTRY: u64 = 160;

/// Index into the functions.
pub type FunctionId = u32;

/// A function to callgrind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// What all stacks of a process come from, so that nothing is without a caller but this.
    Process(ProcessId),
    /// The first label of those of one name, file and module, and how many of these are further outside in the stack.
    Code { label: LabelId, depth: u32 },
}

/// A call, with the line that it is made in, 0 where that is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub from: FunctionId,
    pub line: u32,
    pub to: FunctionId,
}

/// See the module.
#[derive(Default)]
pub struct Graph {
    pub functions: Vec<Function>,
    numbers: HashMap<Function, FunctionId>,
    /// What a function did itself, by line.
    pub own: HashMap<(FunctionId, u32), Amounts>,
    pub calls: HashMap<Call, Amounts>,
}

impl Graph {
    /// Of the largest stacks that fit in `memory`; the others are taken from `stacks`.
    pub fn new(labels: &Labels<'_>, stacks: &mut Stacks<'_>, memory: Option<u64>) -> Self {
        let same = labels.same_functions();
        let mut graph = Self::default();
        let mut left = memory.unwrap_or(u64::MAX);
        let order = stacks.by_size();
        let mut fits = vec![false; order.len()];
        let mut walk = Walk::default();
        for index in order {
            let row = &stacks.rows[index];
            walk.go(labels, &same, row);
            let needed = graph.missing(&walk.steps) * ENTRY;
            fits[index] = needed <= left;
            if fits[index] {
                left -= needed;
                graph.take(&walk.steps, &row.amounts);
            }
        }
        let mut fits = fits.into_iter();
        stacks.retain(|_| fits.next().unwrap_or_default());
        graph
    }

    /// How many entries a stack is more, at least one for each of its functions that is new.
    fn missing(&self, steps: &[Step]) -> u64 {
        let number = |step: &Step| self.numbers.get(&step.function).copied();
        let new = steps.iter().filter(|step| number(step).is_none()).count();
        let calls = steps.windows(2).filter(|pair| match (number(&pair[0]), number(&pair[1])) {
            (Some(from), Some(to)) => !self.calls.contains_key(&Call { from, line: pair[0].line, to }),
            _ => true,
        });
        // Its own entry, too.
        (new + calls.count() + 1) as u64
    }

    fn take(&mut self, steps: &[Step], amounts: &Amounts) {
        let mut outside = None;
        for step in steps {
            let to = self.number(step.function);
            if let Some((from, line)) = outside {
                add(self.calls.entry(Call { from, line, to }).or_default(), amounts);
            }
            outside = Some((to, step.line));
        }
        if let Some(innermost) = outside {
            add(self.own.entry(innermost).or_default(), amounts);
        }
    }

    fn number(&mut self, function: Function) -> FunctionId {
        *self.numbers.entry(function).or_insert_with(|| {
            self.functions.push(function);
            (self.functions.len() - 1) as FunctionId
        })
    }
}

/// A function of a stack, and the line in it.
#[derive(Clone, Copy)]
struct Step {
    function: Function,
    line: u32,
}

/// A stack as steps, outermost first.
#[derive(Default)]
struct Walk {
    steps: Vec<Step>,
    depths: HashMap<LabelId, u32>,
}

impl Walk {
    fn go(&mut self, labels: &Labels<'_>, same: &[LabelId], row: &Row) {
        self.steps.clear();
        self.depths.clear();
        self.steps.push(Step { function: Function::Process(row.process), line: 0 });
        for id in labels.walk_inwards(row.stack) {
            let label = same[id as usize];
            let next = self.depths.entry(label).or_default();
            let depth = *next;
            *next += 1;
            let line = labels.get(id).source.as_ref().and_then(|(_, line)| *line).unwrap_or_default();
            self.steps.push(Step { function: Function::Code { label, depth }, line });
        }
    }
}
