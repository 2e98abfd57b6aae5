//! Numbers and names as people read them. Knows nobody.

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1536` as `1.5 KiB`; below 1 KiB the exact number.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1234` blocks as `1,234 blocks`, `1` as `1 block`.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(count), if count == 1 { one } else { many })
}

/// For formats whose numbers have a sign: what is beyond them is the largest.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `part` of `whole` in percent; nothing of nothing is 0.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Nanoseconds as seconds with milliseconds.
pub(crate) fn seconds(ns: u64) -> String {
    format!("{:.3} s", ns as f64 / 1e9)
}

/// Nanoseconds as seconds, for programs.
pub(crate) fn in_seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Nanoseconds as people say them: `250 ms`, `12.3 s`, `5 min 3 s`, `2 h 5 min`.
pub(crate) fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match seconds {
        0 if ns == 0 => "0 s".into(),
        0 if ns < 1_000 => format!("{ns} ns"),
        0 if ns < 1_000_000 => format!("{} us", ns / 1_000),
        0 => format!("{} ms", ns / 1_000_000),
        1..60 if ns.is_multiple_of(1_000_000_000) => format!("{seconds} s"),
        1..60 => format!("{seconds}.{} s", ns / 100_000_000 % 10),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// The last component of a path; all of it for a name such as `[vdso]`.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let texts = [0, 999, 1000, 1_234_567, u64::MAX].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567", "18,446,744,073,709,551,615"]);
    }

    #[test]
    fn units_change_before_four_digits_show() {
        let texts = [1023, 1024, 1536, (1 << 20) - 1, 1 << 20, u64::MAX].map(human);
        assert_eq!(texts, ["1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "16.0 EiB"]);
    }

    #[test]
    fn durations_have_the_unit_that_suits_them() {
        let texts =
            [0, 250_000_000, 999, 12_345_678, 1_500_000, 12_390_000_000, 10_000_000_000, 303_000_000_000]
                .map(duration);
        assert_eq!(texts, ["0 s", "250 ms", "999 ns", "12 ms", "1 ms", "12.3 s", "10 s", "5 min 3 s"]);
        assert_eq!(duration(7_500_000_000_000), "2 h 5 min");
    }

    #[test]
    fn nothing_of_nothing_is_no_percent() {
        assert_eq!((percent(0, 0), percent(1, 4)), (0.0, 25.0));
    }
}
