//! What the test runner says of the tests that failed, out of all that it prints.

/// Lines kept of one test's output: a failed check's own words stand first, the rest is in the full log.
const LINES: usize = 20;

/// Reads a runner's output line by line and keeps the blocks `---- NAME stdout ----` (libtest) and `---- NAME ----`
/// (libtest-mimic, which the suites use).
#[derive(Default)]
pub struct Failures {
    tests: Vec<Failure>,
    inside: bool,
}

/// One test that failed.
#[derive(Debug, PartialEq)]
pub struct Failure {
    pub name: String,
    /// The first lines of its output, without empty ones.
    pub said: Vec<String>,
    /// How many lines more it printed.
    pub left_out: usize,
}

impl Failures {
    pub fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            let name = name.strip_suffix(" stdout").unwrap_or(name);
            self.tests.push(Failure { name: name.to_owned(), said: Vec::new(), left_out: 0 });
            self.inside = true;
        } else if line == "failures:" {
            // The list of names that follows the blocks.
            self.inside = false;
        } else if let Some(failure) = self.tests.last_mut().filter(|_| self.inside)
            && !line.trim().is_empty()
        {
            if failure.said.len() < LINES {
                failure.said.push(line.to_owned());
            } else {
                failure.left_out += 1;
            }
        }
    }

    pub fn into_tests(self) -> Vec<Failure> {
        self.tests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str) -> Vec<Failure> {
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.line(line));
        failures.into_tests()
    }

    #[test]
    fn a_failed_test_is_kept_with_its_own_words() {
        let output = "test a ... ok\ntest b::c ... FAILED\n\nfailures:\n\n---- b::c stdout ----\n\n\
            thread 'b::c' panicked at src/lib.rs:3:5:\nleft is not right\n\n\nfailures:\n    b::c\n\n\
            test result: FAILED. 1 passed; 1 failed\n";
        let said =
            ["thread 'b::c' panicked at src/lib.rs:3:5:", "left is not right"].map(str::to_owned).to_vec();
        assert_eq!(read(output), [Failure { name: "b::c".to_owned(), said, left_out: 0 }]);
    }

    #[test]
    fn a_failed_test_of_a_suite_is_kept_too() {
        let output = "test a: b ... FAILED\n\nfailures:\n\n---- a: b ----\nnot there\n  because of that\n\n\n\
            failures:\n    a: b\n\n\ntest result: FAILED. 1 passed; 1 failed\n";
        let said = ["not there", "  because of that"].map(str::to_owned).to_vec();
        assert_eq!(read(output), [Failure { name: "a: b".to_owned(), said, left_out: 0 }]);
    }

    #[test]
    fn a_long_output_is_cut_and_says_so() {
        let mut output = String::from("---- a stdout ----\n");
        (0..LINES + 3).for_each(|_| output.push_str("noise\n"));
        let read = read(&output);
        assert_eq!((read[0].said.len(), read[0].left_out), (LINES, 3));
    }

    #[test]
    fn what_passes_leaves_nothing() {
        assert_eq!(read("test a ... ok\n\ntest result: ok. 1 passed; 0 failed\n"), []);
    }
}
