//! Parser of /proc/PID/status.

/// The seccomp mode of a process (its leading thread).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Seccomp {
    #[default]
    Off,
    /// Only read, write, exit and sigreturn.
    Strict,
    /// A BPF filter decides.
    Filter,
}

/// The fields of /proc/PID/status that are used. Fields that a kernel does not print have their default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub seccomp: Seccomp,
    /// The process that a thread is of.
    pub tgid: u32,
    pub threads: u32,
    /// Real user ID.
    pub uid: u32,
    /// Effective user ID.
    pub effective_uid: u32,
    /// The process that traces it by ptrace; 0 if none does.
    pub tracer_pid: u32,
    /// PID in each PID namespace from ours inwards.
    pub ns_pids: Vec<u32>,
    /// Whether a user shadow stack is active (`x86_Thread_features: shstk`, Linux 6.6+).
    pub shadow_stack: bool,
    /// Whether the process has no memory of its own: a kernel thread, or a zombie.
    pub no_memory: bool,
}

/// Parses the contents of a status file.
pub fn parse(contents: &[u8]) -> Status {
    let mut status = Status { no_memory: true, ..Status::default() };
    for line in String::from_utf8_lossy(contents).lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let mut words = value.split_ascii_whitespace();
        let mut first_number = || words.next().and_then(|word| word.parse().ok());
        match key {
            "Seccomp" => {
                status.seccomp = match first_number() {
                    Some(1) => Seccomp::Strict,
                    Some(2) => Seccomp::Filter,
                    _ => Seccomp::Off,
                }
            }
            "Tgid" => status.tgid = first_number().unwrap_or(0),
            "Threads" => status.threads = first_number().unwrap_or(0),
            "Uid" => {
                let mut ids = words.map_while(|word| word.parse().ok());
                status.uid = ids.next().unwrap_or(0);
                status.effective_uid = ids.next().unwrap_or(0);
            }
            "TracerPid" => status.tracer_pid = first_number().unwrap_or(0),
            "NSpid" => status.ns_pids = words.filter_map(|word| word.parse().ok()).collect(),
            "VmSize" => status.no_memory = false,
            // `x86_Thread_features_locked` is another key: locked says only that it can no longer be changed.
            "x86_Thread_features" => status.shadow_stack = words.any(|word| word == "shstk"),
            _ => {}
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "Name:\tx\nTgid:\t4242\nTracerPid:\t99\nUid:\t1000\t1001\t1002\t1003\nNSpid:\t4242\t7\nVmSize:\t 100 kB\nThreads:\t3\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\nx86_Thread_features:\tshstk wrss \n\
        x86_Thread_features_locked:\tshstk wrss \n";

    #[test]
    fn every_field_is_read() {
        let expected = Status {
            seccomp: Seccomp::Filter,
            tgid: 4242,
            threads: 3,
            uid: 1000,
            effective_uid: 1001,
            tracer_pid: 99,
            ns_pids: vec![4242, 7],
            shadow_stack: true,
            no_memory: false,
        };
        assert_eq!(parse(SAMPLE.as_bytes()), expected);
    }

    #[test]
    fn a_locked_feature_is_not_an_active_one() {
        let status = parse(b"x86_Thread_features:\t\nx86_Thread_features_locked:\tshstk wrss\n");
        assert!(!status.shadow_stack);
    }

    #[test]
    fn a_process_without_vm_size_has_no_memory() {
        assert!(parse(b"Name:\tkthreadd\nThreads:\t1\n").no_memory);
    }

    #[test]
    fn strict_seccomp_is_told_from_a_filter() {
        assert_eq!(parse(b"Seccomp:\t1\n").seccomp, Seccomp::Strict);
        assert_eq!(parse(b"Seccomp:\t0\n").seccomp, Seccomp::Off);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
