//! What a user has judged already and does not want to see: the suppression files of LeakSanitizer and of valgrind. A
//! file may have both kinds. Pure.

mod frame;
mod read;

pub use frame::Asked;
pub use read::BadSuppressions;

use frame::Frame;
use std::path::Path;

/// A frame's patterns, of all that there are, which fit it: numbers in order.
pub type Fitting = Box<[u32]>;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The file that it stands in, as its user names it, and the line where it begins.
    pub file: String,
    pub line: usize,
    pub name: String,
    steps: Vec<Step>,
    /// It begins where an allocation function was called, and not anywhere.
    is_from_innermost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A frame that this pattern fits.
    Frame(u32),
    /// Any frames, or none.
    Any,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions {
    frames: Vec<Frame>,
    all: Vec<Suppression>,
    /// Entries of valgrind's for something else than leaks.
    pub others: usize,
}

impl Suppressions {
    /// Adds those of a file's text.
    ///
    /// # Errors
    /// [`BadSuppressions`] at the first line that is none.
    pub fn add(&mut self, file: &Path, text: &str) -> Result<(), BadSuppressions> {
        read::read(self, &file.display().to_string(), text)
    }

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
        let bare = super::names::bare(frame.function);
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
    fn intern(&mut self, frame: Frame) -> u32 {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Suppressions {
        let mut all = Suppressions::default();
        all.add(Path::new("x.supp"), text).expect("good");
        all
    }

    /// The line of the suppression that a stack in `app` fits, innermost function first.
    fn line(all: &Suppressions, allocators: usize, functions: &[&str]) -> Option<usize> {
        let fitting: Vec<Fitting> = functions
            .iter()
            .map(|function| {
                let libc = matches!(*function, "malloc" | "operator new(unsigned long)");
                let module = match *function {
                    "operator new" => "",
                    _ if libc => "/usr/lib/libc.so.6",
                    _ => "/srv/app",
                };
                all.fitting(&Asked { function, module, source: "/src/app.cpp", line: Some(7) })
            })
            .collect();
        let stack: Vec<&[u32]> = fitting.iter().map(|of| &**of).collect();
        all.first_of(&stack, allocators).and_then(|number| all.get(number)).map(|of| of.line)
    }

    #[test]
    fn leak_sanitizers_fit_anywhere_in_a_stack() {
        let all = read("# known\nleak:Cache::fill\nleak:^parse$\nleak:other.cpp\nleak:libx*.so");
        assert_eq!(line(&all, 0, &["malloc", "my::Cache::fill(int)", "main"]), Some(2));
        assert_eq!(line(&all, 0, &["malloc", "grow", "parse", "main"]), Some(3));
        assert_eq!(line(&all, 0, &["malloc", "parser", "main"]), None);
        assert_eq!(line(&read("leak:app.cpp"), 0, &["malloc", "f"]), Some(1));
        assert_eq!(line(&read("leak:/srv/*p"), 0, &["malloc", "f"]), Some(1));
        // A question mark is one.
        assert_eq!(line(&read("leak:pars?"), 0, &["malloc", "parse"]), None);
    }

    #[test]
    fn valgrinds_begin_at_the_allocation_function() {
        let entry = |frames: &str| read(&format!("{{\n  known\n  Memcheck:Leak\n{frames}\n}}\n"));
        let stack = ["malloc", "grow", "parse", "main"];
        assert_eq!(line(&entry("fun:malloc\nfun:grow"), 0, &stack), Some(1));
        assert_eq!(line(&entry("fun:?alloc\nobj:/srv/*"), 0, &stack), Some(1));
        assert_eq!(line(&entry("match-leak-kinds: definite\nfun:malloc\n...\nfun:main"), 0, &stack), Some(1));
        assert_eq!(line(&entry("fun:malloc\n...\nfun:exit"), 0, &stack), None);
        assert_eq!(line(&entry("fun:grow\nfun:parse"), 0, &stack), None);
        assert_eq!(line(&entry("fun:malloc\nsrc:app.cpp:7"), 0, &stack), Some(1));
        assert_eq!(line(&entry("fun:malloc\nsrc:app.cpp:8"), 0, &stack), None);
        // valgrind has operator new for the allocation function, and here that calls malloc.
        let new = ["malloc", "operator new(unsigned long)", "Sessions::open(int)", "main"];
        assert_eq!(line(&entry("fun:_Znwm\nfun:_ZN8Sessions4openEi"), 1, &new), Some(1));
        assert_eq!(line(&entry("fun:_Znwm\nfun:_ZN8Sessions*"), 1, &new), Some(1));
        assert_eq!(line(&entry("fun:_Znwm\nfun:_ZN8Sess*"), 1, &new), Some(1));
        assert_eq!(line(&entry("fun:_Znwm\nfun:_ZN8Sessions5closeEi"), 1, &new), None);
        assert_eq!(line(&entry("fun:_Znwm\nfun:Sessions::*"), 1, &new), Some(1));
        assert_eq!(line(&entry("fun:_Znwm\nfun:Sessions::open"), 1, &["operator new", new[2]]), Some(1));
    }

    #[test]
    fn entries_for_something_else_are_counted() {
        let all = read("{\n a\n Memcheck:Param\n write(buf)\n fun:f\n}\n{\nb\nHelgrind,DRD:Race\nfun:f\n}\n");
        assert_eq!((all.len(), all.others), (0, 2));
    }

    #[test]
    fn what_is_no_suppression_is_told_with_its_line() {
        let bad = |text: &str| {
            Suppressions::default().add(Path::new("x"), text).expect_err("malformed").to_string()
        };
        for (text, expected) in [
            ("leak:a\nrace:b", "line 2: neither leak:PATTERN nor { of one of valgrind's: race:b"),
            ("leak:", "line 1: no pattern"),
            ("{\nname\nMemcheck:Leak\nfun:f", "line 1: it has no end (})"),
            ("{\nname\nLeak\nfun:f\n}", "line 3: no kind of suppression (Memcheck:Leak): Leak"),
            ("{\nname\n}", "line 3: no kind of suppression (Memcheck:Leak): }"),
            ("{\nname\nMemcheck:Leak\nfun:malloc\nfoo\n}", "line 5: neither fun:, obj:, src: nor ...: foo"),
            ("{\nname\nMemcheck:Leak\n}", "line 4: it has no frame"),
            ("{\nname\nMemcheck:Leak\nfun:\n}", "line 4: no pattern"),
            (
                "{\nn\nMemcheck:Leak\nfun:_ZN3fooI*E3bar*\n}",
                "line 4: wildcards in the midst of a mangled name: write it demangled (foo::bar*): _ZN3fooI*E3bar*",
            ),
        ] {
            assert_eq!(bad(text), expected, "{text}");
        }
    }
}
