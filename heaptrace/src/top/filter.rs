//! Which rows are shown: words that must be found, and comparisons of columns (`res>100M`), all of which must hold.

use super::{
    columns::{Column, Value},
    row::Row,
};

/// See the module; without terms everything is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    /// In lower case: in the command, its user, its PID or its cgroup.
    Word(String),
    Compare {
        column: Column,
        op: Op,
        than: Than,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Above,
    AtLeast,
    Below,
    AtMost,
    Is,
    IsNot,
}

#[derive(Clone, Debug, PartialEq)]
enum Than {
    Number(f64),
    /// In lower case.
    Text(String),
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    #[error("there is no column {name}; columns are {}", Column::ALL.map(Column::name).join(", "))]
    NoSuchColumn { name: String },
    #[error("{column} is compared with a number, as in {column}>100 or {column}>1.5M, not with {value:?}")]
    NotANumber { column: &'static str, value: String },
    #[error("{0} is a text: it can be compared with = and != only")]
    Unordered(&'static str),
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`BadFilter`] for a comparison that makes no sense.
    pub fn parse(text: &str) -> Result<Self, BadFilter> {
        let terms = text.split_whitespace().map(term).collect::<Result<_, _>>()?;
        Ok(Self { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a row is shown.
    pub fn accepts(&self, row: &Row) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Word(word) => {
                let holds = |text: &str| text.to_lowercase().contains(word);
                let about = &row.about;
                holds(&about.comm)
                    || holds(&about.command)
                    || holds(&about.user)
                    || holds(&about.cgroup)
                    || row.identity.pid.to_string().contains(word)
            }
            Term::Compare { column, op, than } => match (column.value(row), than) {
                (Value::Number(value), Than::Number(than)) => match op {
                    Op::Above => value > *than,
                    Op::AtLeast => value >= *than,
                    Op::Below => value < *than,
                    Op::AtMost => value <= *than,
                    Op::Is => value == *than,
                    Op::IsNot => value != *than,
                },
                (Value::Text(value), Than::Text(than)) => {
                    value.to_lowercase().contains(than.as_str()) == (*op == Op::Is)
                }
                // What is not measured is neither above nor below.
                _ => false,
            },
        })
    }
}

fn term(word: &str) -> Result<Term, BadFilter> {
    const OPS: [(&str, Op); 7] = [
        (">=", Op::AtLeast),
        ("<=", Op::AtMost),
        ("!=", Op::IsNot),
        ("==", Op::Is),
        (">", Op::Above),
        ("<", Op::Below),
        ("=", Op::Is),
    ];
    let Some(at) = word.find(['>', '<', '=', '!']).filter(|at| *at > 0) else { return Ok(plain(word)) };
    let (name, rest) = word.split_at(at);
    let Some((op, value)) = OPS.iter().find_map(|(text, op)| Some((*op, rest.strip_prefix(text)?))) else {
        return Ok(plain(word));
    };
    // An option of a command line, or a variable.
    if name.starts_with('-') {
        return Ok(plain(word));
    }
    let column = Column::named(name).ok_or_else(|| BadFilter::NoSuchColumn { name: name.to_owned() })?;
    let than = if column.is_number() || column == Column::Trend {
        let bad = || BadFilter::NotANumber { column: column.name(), value: value.to_owned() };
        Than::Number(number(value).ok_or_else(bad)?)
    } else if matches!(op, Op::Is | Op::IsNot) {
        Than::Text(value.to_lowercase())
    } else {
        return Err(BadFilter::Unordered(column.name()));
    };
    Ok(Term::Compare { column, op, than })
}

fn plain(word: &str) -> Term {
    Term::Word(word.to_lowercase())
}

/// `1.5`, `-2k`, `100M`, `12%`.
fn number(text: &str) -> Option<f64> {
    let text = text.strip_suffix('%').unwrap_or(text);
    let text = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let (digits, factor) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1024.0),
        (at, 'm' | 'M') => (&text[..at], 1024.0 * 1024.0),
        (at, 'g' | 'G') => (&text[..at], 1024.0 * 1024.0 * 1024.0),
        (at, 't' | 'T') => (&text[..at], 1024.0 * 1024.0 * 1024.0 * 1024.0),
        _ => (text, 1.0),
    };
    digits.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::top_rows;
    use proptest::prelude::*;

    fn found(filter: &str) -> Vec<u32> {
        let filter = Filter::parse(filter).expect(filter);
        top_rows::rows().iter().filter(|row| filter.accepts(row)).map(|row| row.identity.pid).collect()
    }

    #[test]
    fn words_are_looked_for_in_every_text() {
        assert_eq!(found("REDIS"), [812]);
        assert_eq!(found("postgres checkpointer"), [901]);
        assert_eq!(found("812"), [812]);
        assert_eq!(found("system.slice/redis"), [812]);
        assert_eq!(found("nothing-of-that-name"), [0; 0]);
        assert_eq!(found("").len(), top_rows::rows().len());
    }

    #[test]
    fn columns_are_compared_with_numbers_and_texts() {
        assert_eq!(found("res>100M"), [1200]);
        assert_eq!(found("growth>0 user=root"), [1200]);
        assert_eq!(found("live>=1k"), [812], "what is not traced is neither above nor below");
        assert_eq!(found("live<1k"), [0; 0]);
        assert_eq!(found("pid=812"), [812]);
        assert_eq!(found("command!=e"), [1]);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let said = |text| Filter::parse(text).expect_err("an error").to_string();
        assert!(said("rss>1").starts_with("there is no column rss; columns are pid, user, mem, virt, res"));
        assert!(said("res>much").contains("res>1.5M"));
        assert_eq!(said("user>root"), "user is a text: it can be compared with = and != only");
        assert!(Filter::parse("--port=6379 =x !").is_ok(), "words of a command line");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String) {
            if let Ok(filter) = Filter::parse(&text) {
                let rows = top_rows::rows();
                prop_assert!(rows.iter().filter(|row| filter.accepts(row)).count() <= rows.len());
            }
        }

        #[test]
        fn sizes_are_compared_as_they_are_written(kib in 0_u32..1 << 20) {
            let above = Filter::parse(&format!("res>{kib}k")).expect("a filter");
            let most = Filter::parse(&format!("res<={kib}k")).expect("a filter");
            for row in top_rows::rows() {
                prop_assert_eq!(above.accepts(&row), row.res > u64::from(kib) * 1024);
                prop_assert!(above.accepts(&row) != most.accepts(&row));
            }
        }
    }
}
