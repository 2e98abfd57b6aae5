//! What became of every check, and the summary that ends with what failed.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::step::{self, Outcome};

/// What became of every check, in order.
#[derive(Default)]
pub struct Checks {
    done: Vec<(String, Outcome)>,
    not_run: Vec<(String, Option<String>)>,
    left_out: Vec<(String, String)>,
}

impl Checks {
    pub fn run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let outcome = step::tests(name, command)?;
        self.done.push((name.to_owned(), outcome));
        Ok(())
    }

    /// A check of our own: it passes if it finds no faults, which are said.
    pub fn judge(&mut self, name: &str, find: impl FnOnce() -> Result<Vec<String>>) -> Result<()> {
        let outcome = step::found(name, find)?;
        self.done.push((name.to_owned(), outcome));
        Ok(())
    }

    /// `refused` says why the machine cannot run it; `None`, that the user did not want it.
    pub fn not_run(&mut self, name: &str, refused: Option<&str>) {
        self.not_run.push((name.to_owned(), refused.map(str::to_owned)));
    }

    /// What is no failure where it is not done, and why it is not.
    pub fn leave_out(&mut self, name: &str, why: &str) {
        self.left_out.push((name.to_owned(), why.to_owned()));
    }

    fn passed(&self) -> bool {
        self.done.iter().all(|(_, outcome)| outcome.ok)
            && self.not_run.iter().all(|(_, refused)| refused.is_none())
    }

    /// The last lines: the runners' own results under the name of each check, then what failed, in its words.
    pub fn report(&self) -> ExitCode {
        println!("\nsummary");
        for (name, outcome) in &self.done {
            let verdict = if outcome.ok { "ok" } else { "FAILED" };
            println!("  {verdict:<8}{:>6.1} s  {name}", outcome.took.as_secs_f64());
            for line in &outcome.results {
                println!("                    {line}");
            }
        }
        for (name, refused) in &self.not_run {
            println!("  NOT RUN           {name}: {}", refused.as_deref().unwrap_or("--no-bpf"));
        }
        for (name, why) in &self.left_out {
            println!("  LEFT OUT          {name}: {why}");
        }
        for (name, outcome) in &self.done {
            for failure in &outcome.failures {
                println!("\nFAILED  {name}: {}", failure.name);
                for line in &failure.said {
                    println!("    {line}");
                }
                if failure.left_out > 0 {
                    println!("    ... {} lines more, in the output of {name} above", failure.left_out);
                }
            }
        }
        if self.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(ok: bool) -> Checks {
        let mut checks = Checks::default();
        checks.run("sample", &mut Command::new(if ok { "true" } else { "false" })).unwrap();
        checks
    }

    #[test]
    fn one_failure_fails_the_whole() {
        assert!(checks(true).passed());
        assert!(!checks(false).passed());
    }

    #[test]
    fn what_the_machine_refuses_fails_and_what_the_user_leaves_out_does_not() {
        let mut left_out = checks(true);
        left_out.not_run("accuracy", None);
        assert!(left_out.passed());
        let mut refused = checks(true);
        refused.not_run("accuracy", Some("not root"));
        assert!(!refused.passed());
        let mut by_itself = checks(true);
        by_itself.leave_out("licenses", "no tool");
        assert!(by_itself.passed());
    }
}
