//! Numbers of bytes, as people write them.

/// `4096`, `4k`, `1M`, `256MiB`, `2G`: bytes.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix(['b', 'B']).unwrap_or(text);
    let number = number.strip_suffix('i').filter(|of| of.ends_with(char::is_alphabetic)).unwrap_or(number);
    let (digits, factor) = match number.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&number[..at], 1_u64 << 10),
        Some((at, 'm' | 'M')) => (&number[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&number[..at], 1 << 30),
        _ => (number, 1),
    };
    let number: u64 =
        digits.parse().map_err(|_| "expected a number of bytes, as in 4096, 4k or 1M".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too many bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_suffixes() {
        let sizes = ["0", "4096", "1k", "1K", "2M", "3G", "5B", "6kB", "256MiB", "7Ki"].map(parse_bytes);
        let expected = [0, 4096, 1024, 1024, 2 << 20, 3 << 30, 5, 6144, 256 << 20, 7168].map(Ok);
        assert_eq!(sizes, expected);
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        for text in [
            "",
            "k",
            "i",
            "iB",
            "1i",
            "1iB",
            "1ii",
            "1kii",
            "B",
            "1BB",
            "1x",
            "1é",
            "-1",
            "1.5k",
            "99999999999999999999",
            "99999999999G",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
