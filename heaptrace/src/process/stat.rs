//! Parser of /proc/PID/stat.

/// The fields of /proc/PID/stat that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub pid: u32,
    /// At most 15 bytes; may hold spaces and parentheses. Not UTF-8: lossily converted.
    pub comm: String,
    /// One letter: `R`, `S`, `Z` ...
    pub state: char,
    pub parent_pid: u32,
    pub threads: u32,
    /// Page faults of all its threads, without and with I/O.
    pub faults: u64,
    /// Processor time of all its threads, in clock ticks.
    pub cpu_ticks: u64,
    /// Clock ticks since boot.
    pub start_time: u64,
    /// Pages.
    pub rss_pages: u64,
    /// Where the heap begins, there or not; 0 where the kernel does not say (proc(5): it takes the right to trace).
    pub start_brk: u64,
}

/// Parses the contents of a stat file. `None` if it is none.
pub fn parse(contents: &[u8]) -> Option<Stat> {
    let open = contents.iter().position(|byte| *byte == b'(')?;
    // The name may hold parentheses; what follows it does not.
    let close = contents.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(&contents[..open]).ok()?.trim().parse().ok()?;
    let comm = String::from_utf8_lossy(contents.get(open + 1..close)?).into_owned();
    let fields: Vec<&str> =
        std::str::from_utf8(&contents[close + 1..]).ok()?.split_ascii_whitespace().collect();
    // proc(5) numbers the fields from 1; the first behind the name is 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let signed: i64 = field(24)?.parse().ok()?;
    let count = |number: usize| field(number)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        comm,
        state: field(3)?.chars().next()?,
        parent_pid: field(4)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        faults: count(10)?.saturating_add(count(12)?),
        cpu_ticks: count(14)?.saturating_add(count(15)?),
        start_time: field(22)?.parse().ok()?,
        rss_pages: u64::try_from(signed).unwrap_or(0),
        start_brk: field(47).and_then(|address| address.parse().ok()).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAIL: &str =
        "S 17 42 42 0 -1 4194560 100 0 4 0 5 6 0 0 20 0 3 0 123456 8192000 321 18446744073709551615";

    #[test]
    fn a_name_with_parentheses_and_spaces_is_taken_whole() {
        let stat = parse(format!("42 (a) S (b c) {TAIL}\n").as_bytes()).expect("a stat line");
        let expected = Stat {
            pid: 42,
            comm: "a) S (b c".into(),
            state: 'S',
            parent_pid: 17,
            threads: 3,
            faults: 104,
            cpu_ticks: 11,
            start_time: 123_456,
            rss_pages: 321,
            start_brk: 0,
        };
        assert_eq!(stat, expected);
    }

    #[test]
    fn a_torn_line_is_no_stat() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"42 (x) S 17"), None);
        assert_eq!(parse(b"42 )x( S 17"), None);
    }

    #[test]
    fn our_own_stat_names_us() {
        let stat = parse(&std::fs::read("/proc/self/stat").expect("stat")).expect("a stat line");
        assert_eq!(stat.pid, std::process::id());
        assert_eq!(stat.parent_pid, std::os::unix::process::parent_id());
        assert!(stat.rss_pages > 0 && stat.threads > 0);
    }

    proptest! {
        #[test]
        fn any_name_is_read_back(comm in "[ -~]{0,15}") {
            let stat = parse(format!("7 ({comm}) {TAIL}").as_bytes());
            prop_assert_eq!(stat.map(|stat| stat.comm), Some(comm));
        }

        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
