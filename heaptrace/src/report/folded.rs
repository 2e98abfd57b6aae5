//! Folded stacks, the form that flame graph tools read: `comm:pid;outermost;…;innermost bytes`, sorted, equal
//! stacks summed up. Nothing else is in the output, as tools take every line for a stack.

use super::Options;
use super::labels::Labels;
use super::number::printable;
use super::select::Selection;
use crate::model::Profile;
use std::collections::BTreeMap;
use std::io::{self, Write};

pub(super) fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    for (stack, bytes) in fold(profile, options).lines {
        writeln!(out, "{stack} {bytes}")?;
    }
    Ok(())
}

/// Stacks and their bytes, and what `min_bytes` hides of them.
pub(super) struct Folded {
    pub lines: BTreeMap<String, u64>,
    pub hidden_stacks: u64,
    pub hidden_bytes: u64,
}

/// Folds the chosen stacks; those of no bytes are left out.
pub(super) fn fold(profile: &Profile, options: &Options) -> Folded {
    let selection = Selection::new(profile, options);
    let labels = Labels::new(profile);
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    let mut stack = Vec::new();
    for entry in &selection.entries {
        let Some(process) = profile.processes.get(entry.process.index()) else { continue };
        let mut line = format!("{}:{}", element(&process.comm), process.pid);
        labels.of_stack(entry.stack, &mut stack);
        for &label in stack.iter().rev() {
            line.push(';');
            line.push_str(&element(&labels.get(label).name));
        }
        let bytes = lines.entry(line).or_default();
        *bytes = bytes.saturating_add(entry.weight.bytes);
    }
    let (mut hidden_stacks, mut hidden_bytes) = (0, 0_u64);
    lines.retain(|_, bytes| {
        let keep = *bytes >= options.min_bytes.max(1);
        if !keep && *bytes > 0 {
            hidden_stacks += 1;
            hidden_bytes = hidden_bytes.saturating_add(*bytes);
        }
        keep
    });
    Folded { lines, hidden_stacks, hidden_bytes }
}

/// `name` without the character that separates frames. Blanks are fine: the number is after the last one.
fn element(name: &str) -> String {
    printable(name).replace(';', ":")
}
