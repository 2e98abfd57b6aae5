//! Numbers in the few characters that a column has; whole where they are written raw.

use crate::units::Numbers;

/// `1536` as `1.5K`, in at most 5 characters.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if Numbers::here() == Numbers::Raw {
        return bytes.to_string();
    }
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    scaled(bytes as f64 / 1024.0, 1024.0, &UNITS)
}

/// The same with a sign; nothing is `0`.
pub fn signed_bytes(amount: f64) -> String {
    let whole = amount.abs().round() as u64;
    match whole {
        0 => "0".into(),
        _ => format!("{}{}", if amount < 0.0 { '-' } else { '+' }, bytes(whole)),
    }
}

/// `12345` as `12.3k`, in at most 5 characters.
pub fn count(count: f64) -> String {
    const UNITS: [&str; 5] = ["k", "M", "G", "T", "P"];
    if count < 999.5 || Numbers::here() == Numbers::Raw {
        return if count > 0.0 && count < 9.95 && count.fract() != 0.0 {
            format!("{count:.1}")
        } else {
            format!("{count:.0}")
        };
    }
    scaled(count / 1000.0, 1000.0, &UNITS)
}

/// A share as percent.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 99.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    if value < 99.95 { format!("{value:.1}{}", units[unit]) } else { format!("{value:.0}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_suit_the_number() {
        let texts = [0, 999, 1000, 1536, 1 << 20, 300 << 20, (1 << 30) - 1, u64::MAX].map(bytes);
        assert_eq!(texts, ["0B", "999B", "1.0K", "1.5K", "1.0M", "300M", "1.0G", "16.0E"]);
        let texts = [0.0, 0.25, 3.0, 12.5, 999.0, 1000.0, 123_456.0].map(count);
        assert_eq!(texts, ["0", "0.2", "3", "12", "999", "1.0k", "123k"]);
        assert_eq!([0.2, -1536.0, 99.0].map(signed_bytes), ["0", "-1.5K", "+99B"]);
        assert_eq!([0.0, 0.123, 1.5].map(percent), ["0.0%", "12.3%", "150%"]);
    }

    #[test]
    fn raw_is_whole() {
        let written =
            Numbers::Raw.within(|| [bytes(1536), signed_bytes(-1_500_000.0), count(123_456.7), count(0.25)]);
        assert_eq!(written, ["1536", "-1500000", "123457", "0.2"]);
    }

    proptest! {
        #[test]
        fn five_characters_are_enough(n: u64) {
            prop_assert!(bytes(n).len() <= 5, "{}", bytes(n));
            prop_assert!(count(n as f64 / 1e4).len() <= 5, "{}", count(n as f64 / 1e4));
        }
    }
}
