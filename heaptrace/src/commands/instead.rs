//! What to type in place of a word that is no command, where it names what runs.

use crate::{
    process::{command, procfs},
    target::pids_named,
    units::counted,
};
use std::ffi::{OsStr, OsString};

/// The most bytes of a process's name (`TASK_COMM_LEN`, include/linux/sched.h, without its NUL).
const NAME_BYTES: usize = 15;

/// Where `word` is a number, or the name of running processes: that, and how `heaptrace COMMAND` is told of them.
pub(super) fn of_running(command: &str, word: &OsStr) -> Option<String> {
    let word = word.to_str()?;
    if let Ok(pid) = word.parse::<u32>() {
        return Some(match procfs::comm(pid) {
            Ok(comm) => {
                format!("process {pid} ({comm}) is running; to trace it: heaptrace {command} -p {pid}")
            }
            Err(_) => format!("there is no process {pid}, either"),
        });
    }
    let name = word.get(..NAME_BYTES).unwrap_or(word);
    let running = pids_named(name).ok().filter(|pids| !name.is_empty() && !pids.is_empty())?;
    let (is, them) = if running.len() == 1 { ("is", "it") } else { ("are", "them") };
    let processes = counted(running.len() as u64, "process", "processes");
    Some(format!("{processes} named {name} {is} running; to trace {them}: heaptrace {command} --comm {name}"))
}

/// The same of a word where a command of heaptrace's own belongs, which may be a program, too.
pub fn of_command(word: &str) -> Vec<String> {
    let is_program = command::resolve(&[OsString::from(word)], std::env::var_os("PATH").as_deref()).is_ok();
    let program =
        is_program.then(|| format!("{word} is a program; to start and trace it: heaptrace record {word}"));
    of_running("record", OsStr::new(word)).into_iter().chain(program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_a_name_that_runs_is_answered_with_what_to_type() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().expect("cat");
        let pid = child.id();
        let of = |word: &str| of_running("leaks", OsStr::new(word));
        let number = of(&pid.to_string()).expect("it runs");
        assert!(number.ends_with(&format!("heaptrace leaks -p {pid}")), "{number}");
        // It has its name once it has execed.
        while procfs::comm(pid).expect("it runs") != "cat" {}
        let name = of("cat").expect("it runs");
        assert!(name.ends_with("heaptrace leaks --comm cat"), "{name}");
        assert_eq!(of_command("cat").len(), 2);
        child.kill().expect("a signal");
        child.wait().expect("its end");
        assert_eq!(of(&pid.to_string()), Some(format!("there is no process {pid}, either")));
    }

    #[test]
    fn of_other_words_nothing_is_said() {
        for word in ["no-process-of-this-name", "", "-1", "./no-such-program", "ünknöwn-prögräm"] {
            assert_eq!(of_command(word), [""; 0], "{word}");
        }
    }
}
