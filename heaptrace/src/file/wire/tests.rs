//! The layout of values.

use super::*;

#[derive(Debug, PartialEq)]
struct Before {
    a: u32,
    list: Vec<String>,
}
record!(Before { a: u32, list: Vec<String> });

#[derive(Debug, PartialEq)]
struct After {
    a: u32,
    list: Vec<String>,
    more: Option<u64>,
    last: i64,
}
record!(After { a: u32, list: Vec<String> } later { more: Option<u64>, last: i64 });

const NEWER: Version = Version { major: Version::CURRENT.major, minor: Version::CURRENT.minor + 1 };

fn read<T: Wire>(content: &[u8], version: Version) -> Result<(T, u64), Bad> {
    let mut from = Reader::new(content, version, 1 << 20);
    let value = T::read(&mut from)?;
    Ok((value, from.finish()?.bytes))
}

fn before() -> Before {
    Before { a: 300, list: vec![String::new(), "ab".into()] }
}

#[test]
fn what_was_appended_is_skipped_by_who_does_not_know_it_and_empty_where_it_was_not_written() {
    let Before { a, list } = before();
    let after = After { a, list, more: Some(1 << 40), last: -3 };
    let written = content(NEWER, &after);
    assert_eq!(read(&written, NEWER), Ok((before(), 1 + 6 + 1)));
    assert_eq!(read::<Before>(&written, Version::CURRENT), Err(Bad::Rest(8)));
    let written = content(Version::CURRENT, &before());
    let Before { a, list } = before();
    assert_eq!(read(&written, Version::CURRENT), Ok((After { a, list, more: None, last: 0 }, 0)));
}

/// Records after a longer one are where they are.
#[test]
fn each_record_of_a_list_ends_by_itself() {
    let Before { a, list } = before();
    let after =
        vec![After { a, list, more: None, last: 7 }, After { a: 1, list: vec![], more: None, last: 8 }];
    let (read, skipped): (Vec<Before>, u64) = read(&content(NEWER, &after), NEWER).expect("read");
    assert_eq!((read, skipped), (vec![before(), Before { a: 1, list: vec![] }], 4));
}

#[test]
fn values_are_as_in_postcard() {
    fn agree<T: Wire + PartialEq + std::fmt::Debug + serde::Serialize>(value: &T) {
        let written = content(Version::CURRENT, value);
        assert_eq!(written, postcard::to_stdvec(value).expect("encoded"));
        assert_eq!(read::<T>(&written, Version::CURRENT).as_ref().map(|(value, _)| value), Ok(value));
    }
    for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), 1 << 63, u64::MAX] {
        agree(&number);
        agree(&number.cast_signed());
        agree(&Some(number as u32));
        agree(&(number as u8, number % 2 == 0));
    }
    agree(&i64::MIN);
    agree(&vec![(vec!["é".to_owned()], None), (vec![], Some(3_u8))]);
}

#[test]
fn what_is_no_value_is_refused() {
    assert_eq!(read::<u64>(&[0xff; 9], Version::CURRENT), Err(Bad::Ends));
    assert_eq!(read::<u64>(&[0xff; 10], Version::CURRENT), Err(Bad::Number));
    assert_eq!(read::<u32>(&[0xff, 0xff, 0xff, 0xff, 0x10], Version::CURRENT), Err(Bad::Number));
    assert_eq!(read::<String>(&[2, b'x'], Version::CURRENT), Err(Bad::Ends));
    assert_eq!(read::<String>(&[1, 0xff], Version::CURRENT), Err(Bad::Text));
    assert!(matches!(read::<Option<u8>>(&[2, 0], Version::CURRENT), Err(Bad::Choice { number: 2, .. })));
    assert_eq!(read::<u8>(&[0, 0, 0], Version::CURRENT), Err(Bad::Rest(2)));
    // A record that ends before its values do, although more follows.
    assert_eq!(read::<(Before, u8)>(&[1, 0, 0], Version::CURRENT), Err(Bad::Ends));
    assert_eq!(read::<Before>(&[9, 0, 0], Version::CURRENT), Err(Bad::Ends));
}

#[test]
fn memory_is_counted_before_it_is_taken() {
    let strings = content(Version::CURRENT, &vec![String::new(); 10_000]);
    let read = |memory| {
        let mut from = Reader::new(&strings, Version::CURRENT, memory);
        Vec::<String>::read(&mut from).map(|list| list.len())
    };
    assert_eq!(read(500_000), Ok(10_000));
    assert_eq!(read(300_000), Err(Bad::Memory));
}
