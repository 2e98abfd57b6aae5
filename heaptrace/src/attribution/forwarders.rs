//! Functions that pass allocations on, by how they are called: names alone tell too little, as a program may have a
//! `load_realloc` that is a function as any other.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// A function of a name that forwarders have is one if so many functions call it.
const CALLERS_BY_NAME: usize = 3;

/// One of any name is if so many do, and nearly all allocations of its program or library come by it.
const CALLERS_BY_SHAPE: usize = 10;
const MOST_STACKS_PERCENT: u64 = 90;

/// Of fewer stacks nothing can be said.
const FEWEST_STACKS: u64 = 20;

/// Where the user's part of stacks begins, one stack after the other.
pub struct Forwarders<F, M> {
    functions: HashMap<F, Seen<F, M>>,
    stacks: HashMap<M, u64>,
}

struct Seen<F, M> {
    module: M,
    is_named_so: bool,
    stacks: u64,
    /// As many as it takes.
    callers: Vec<F>,
}

impl<F: Copy + Eq + Hash, M: Copy + Eq + Hash> Default for Forwarders<F, M> {
    fn default() -> Self {
        Self { functions: HashMap::new(), stacks: HashMap::new() }
    }
}

impl<F: Copy + Eq + Hash, M: Copy + Eq + Hash> Forwarders<F, M> {
    /// Takes a stack in which `function` of `module` is the first behind what is hidden for certain, and its caller.
    pub fn take(&mut self, function: F, module: M, is_named_so: bool, caller: Option<F>) {
        *self.stacks.entry(module).or_default() += 1;
        let seen = self.functions.entry(function).or_insert_with(|| Seen {
            module,
            is_named_so,
            stacks: 0,
            callers: Vec::new(),
        });
        seen.stacks += 1;
        if let Some(caller) = caller.filter(|caller| *caller != function)
            && seen.callers.len() < CALLERS_BY_SHAPE
            && !seen.callers.contains(&caller)
        {
            seen.callers.push(caller);
        }
    }

    /// Those that pass on.
    pub fn found(&self) -> HashSet<F> {
        let passes_on = |seen: &Seen<F, M>| {
            let of_module = self.stacks.get(&seen.module).copied().unwrap_or_default();
            let most = of_module >= FEWEST_STACKS && seen.stacks * 100 >= of_module * MOST_STACKS_PERCENT;
            (seen.is_named_so && seen.callers.len() >= CALLERS_BY_NAME)
                || (most && seen.callers.len() >= CALLERS_BY_SHAPE)
        };
        self.functions.iter().filter(|(_, seen)| passes_on(seen)).map(|(function, _)| *function).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stacks: &[(&'static str, &'static str)]) -> Vec<&'static str> {
        let mut of = Forwarders::default();
        for (function, caller) in stacks {
            of.take(*function, (), function.ends_with("_malloc"), Some(*caller));
        }
        let mut found: Vec<_> = of.found().into_iter().collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn a_name_needs_some_callers() {
        assert_eq!(
            found(&[("load_malloc", "main"), ("load_malloc", "main"), ("load_malloc", "reload")]),
            [""; 0]
        );
        assert_eq!(
            found(&[("x_malloc", "a"), ("x_malloc", "b"), ("x_malloc", "c"), ("f", "a")]),
            ["x_malloc"]
        );
        assert_eq!(found(&[("f", "a"), ("f", "b"), ("f", "c")]), [""; 0]);
    }

    #[test]
    fn a_function_that_nearly_all_goes_by_passes_on_whatever_its_name() {
        const CALLERS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let mut stacks: Vec<_> =
            CALLERS.iter().chain(&CALLERS).map(|caller| ("take_room", *caller)).collect();
        assert_eq!(found(&stacks), ["take_room"]);
        stacks.extend([("g", "main"); 4]);
        assert_eq!(found(&stacks), [""; 0], "others have their part");
        let few: Vec<_> = CALLERS.iter().map(|caller| ("take_room", *caller)).collect();
        assert_eq!(found(&few), [""; 0]);
        assert_eq!(found(&[("make_node", "build"); 30]), [""; 0], "its caller is one");
    }
}
