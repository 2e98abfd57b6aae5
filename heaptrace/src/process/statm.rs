//! Parser of /proc/PID/statm.

/// How much memory a process has mapped, and how much of it is resident; in pages. Since Linux 6.2 the counters behind
/// it are kept by CPU, and may be off by a few dozen pages a CPU (`get_mm_counter`, include/linux/mm.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statm {
    /// Mapped.
    pub size: u64,
    pub resident: u64,
    /// Of the resident ones, those of files and of shared memory; the others are anonymous (`task_statm`,
    /// fs/proc/task_mmu.c).
    pub shared: u64,
}

impl Statm {
    /// Resident pages that belong to no file: heap, anonymous mappings, stacks, and private pages of files that were
    /// written to.
    pub fn anonymous(&self) -> u64 {
        self.resident.saturating_sub(self.shared)
    }
}

/// Parses the contents of a statm file. `None` if it is none.
pub fn parse(contents: &[u8]) -> Option<Statm> {
    let mut numbers = std::str::from_utf8(contents).ok()?.split_ascii_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Statm { size: next()?, resident: next()?, shared: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_in_no_file_is_anonymous() {
        let statm = parse(b"4000 900 250 12 0 700 0\n").expect("a statm line");
        assert_eq!(statm, Statm { size: 4000, resident: 900, shared: 250 });
        assert_eq!(statm.anonymous(), 650);
        assert_eq!(parse(b"4000 900"), None);
    }

    #[test]
    fn our_own_agrees_with_status() {
        let statm = parse(&std::fs::read("/proc/self/statm").expect("statm")).expect("a statm line");
        assert!(statm.anonymous() > 0 && statm.resident < statm.size);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
