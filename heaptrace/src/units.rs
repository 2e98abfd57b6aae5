//! Numbers and names as people read them, or as programs do where that is asked for. Knows nobody.

use std::cell::Cell;

/// How numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// With separators and units that suit them.
    #[default]
    Readable,
    /// Whole: digits alone, of bytes and seconds.
    Raw,
}

thread_local! {
    static WRITTEN: Cell<Numbers> = const { Cell::new(Numbers::Readable) };
}

impl Numbers {
    /// All that `write` writes, in this thread, has its numbers so: it is for who prints to say, and no matter of each number.
    pub(crate) fn within<T>(self, write: impl FnOnce() -> T) -> T {
        struct Before(Numbers);
        impl Drop for Before {
            fn drop(&mut self) {
                WRITTEN.set(self.0);
            }
        }
        let _before = Before(WRITTEN.replace(self));
        write()
    }

    /// How they are written where this is called.
    pub(crate) fn here() -> Self {
        WRITTEN.get()
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    if Numbers::here() == Numbers::Raw {
        return digits;
    }
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1536` as `1.5 KiB`; below 1 KiB, and raw, the exact number.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 || Numbers::here() == Numbers::Raw {
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

/// The same in a column, which raw has the number alone: one word in each line.
pub(crate) fn bytes_cell(bytes: u64) -> String {
    match Numbers::here() {
        Numbers::Readable => human(bytes),
        Numbers::Raw => bytes.to_string(),
    }
}

/// `1536` as `1,536 bytes (1.5 KiB)`, raw without the latter.
pub(crate) fn sized(bytes: u64) -> String {
    match Numbers::here() {
        Numbers::Readable => format!("{} bytes ({})", thousands(bytes), human(bytes)),
        Numbers::Raw => format!("{bytes} bytes"),
    }
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

/// Nanoseconds as seconds with milliseconds; raw, all digits that there are.
pub(crate) fn seconds(ns: u64) -> String {
    if Numbers::here() == Numbers::Raw {
        return format!("{} s", whole(ns));
    }
    format!("{:.3} s", ns as f64 / 1e9)
}

/// Nanoseconds as seconds, for programs.
pub(crate) fn in_seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The same in a column, which raw has the number alone.
pub(crate) fn seconds_cell(ns: u64) -> String {
    match Numbers::here() {
        Numbers::Readable => seconds(ns),
        Numbers::Raw => whole(ns),
    }
}

/// Seconds without loss: `0.000000999`, `303`.
fn whole(ns: u64) -> String {
    let digits = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Nanoseconds as people say them: `250 ms`, `12.3 s`, `5 min 3 s`, `2 h 5 min`; raw, in seconds.
pub(crate) fn duration(ns: u64) -> String {
    if Numbers::here() == Numbers::Raw {
        return format!("{} s", whole(ns));
    }
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
    fn raw_numbers_lose_nothing_and_have_one_unit() {
        let written = Numbers::Raw.within(|| {
            let sizes = [999, 1536, u64::MAX].map(|of| [thousands(of), human(of), sized(of)].join(" "));
            let times = [0, 999, 12_390_000_000, 10_000_000_000, 303_000_000_001].map(duration);
            assert_eq!(
                (bytes_cell(1536), seconds_cell(1_500_000_000)),
                ("1536".to_owned(), "1.5".to_owned())
            );
            (sizes, times, seconds(20_537_123_456), counted(1_234, "block", "blocks"))
        });
        let sizes = [
            "999 999 B 999 bytes",
            "1536 1536 B 1536 bytes",
            "18446744073709551615 18446744073709551615 B 18446744073709551615 bytes",
        ];
        let times = ["0 s", "0.000000999 s", "12.39 s", "10 s", "303.000000001 s"];
        let written = (
            written.0.each_ref().map(String::as_str),
            written.1.each_ref().map(String::as_str),
            written.2,
            written.3,
        );
        assert_eq!(written, (sizes, times, "20.537123456 s".to_owned(), "1234 blocks".to_owned()));
    }

    #[test]
    fn numbers_are_readable_again_however_a_print_ends() {
        let failed = std::panic::catch_unwind(|| Numbers::Raw.within(|| panic!("in the middle")));
        assert!(failed.is_err());
        assert_eq!((sized(1536), Numbers::here()), ("1,536 bytes (1.5 KiB)".to_owned(), Numbers::Readable));
    }

    #[test]
    fn nothing_of_nothing_is_no_percent() {
        assert_eq!((percent(0, 0), percent(1, 4)), (0.0, 25.0));
    }
}
