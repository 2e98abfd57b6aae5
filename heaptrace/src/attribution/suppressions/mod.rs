//! What a user has judged already and does not want to see: the suppression files of LeakSanitizer and of valgrind. A
//! file may have both kinds. Pure.

mod frame;
mod read;
mod set;

pub use frame::Asked;
pub use read::BadSuppressions;
pub use set::{Suppression, Suppressions};

#[cfg(test)]
mod tests {
    use super::{set::Fitting, *};
    use std::path::Path;

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
