//! The columns: what they are called, what they hold, how wide they are, and which go first where there is no room.

use super::row::Row;
use crate::printable::printable;
use crate::widgets::amount;
use std::{borrow::Cow, cmp::Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    Pid,
    User,
    Mem,
    Virt,
    Res,
    Heap,
    Growth,
    Trend,
    Faults,
    Mapped,
    Live,
    Allocs,
    Frees,
    LiveGrowth,
    Cost,
    Site,
    Cgroup,
    Command,
}

/// What a cell holds, to sort and filter by.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Number(f64),
    Text(&'a str),
    /// Not measured.
    Missing,
}

impl Value<'_> {
    /// Numbers from the largest, texts from A; what is missing comes last.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => b.total_cmp(a),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Missing, Self::Missing) => Ordering::Equal,
            (Self::Missing, _) => Ordering::Greater,
            (_, Self::Missing) => Ordering::Less,
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
    }
}

impl Column {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 18] = [
        Self::Pid,
        Self::User,
        Self::Mem,
        Self::Virt,
        Self::Res,
        Self::Heap,
        Self::Growth,
        Self::Trend,
        Self::Faults,
        Self::Mapped,
        Self::Live,
        Self::LiveGrowth,
        Self::Allocs,
        Self::Frees,
        Self::Cost,
        Self::Site,
        Self::Cgroup,
        Self::Command,
    ];

    /// What it is called in the heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Pid => "PID",
            Self::User => "USER",
            Self::Mem => "%MEM",
            Self::Virt => "VIRT",
            Self::Res => "RES",
            Self::Heap => "HEAP",
            Self::Growth => "GROW/m",
            Self::Trend => "TREND",
            Self::Faults => "FLT/s",
            Self::Mapped => "MAP/m",
            Self::Live => "LIVE",
            Self::LiveGrowth => "LIVE/m",
            Self::Allocs => "ALLOC/s",
            Self::Frees => "FREE/s",
            Self::Cost => "COST",
            Self::Site => "TOP SITE",
            Self::Cgroup => "CGROUP",
            Self::Command => "COMMAND",
        }
    }

    /// What it is called in filters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::User => "user",
            Self::Mem => "mem",
            Self::Virt => "virt",
            Self::Res => "res",
            Self::Heap => "heap",
            Self::Growth => "growth",
            Self::Trend => "trend",
            Self::Faults => "faults",
            Self::Mapped => "mapped",
            Self::Live => "live",
            Self::LiveGrowth => "livegrowth",
            Self::Allocs => "allocs",
            Self::Frees => "frees",
            Self::Cost => "cost",
            Self::Site => "site",
            Self::Cgroup => "cgroup",
            Self::Command => "command",
        }
    }

    /// What its numbers are, for help.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Pid => "process",
            Self::User => "effective user",
            Self::Mem => "RES as a share of the machine's memory",
            Self::Virt => "mapped, resident or not",
            Self::Res => "resident, shared pages and files included",
            Self::Heap => "resident and in no file: brk heap, anonymous mappings, stacks",
            Self::Growth => "growth of HEAP over the last minute (less if seen for less), by the minute",
            Self::Trend => "HEAP over the last minute, from its least to its most",
            Self::Faults => "page faults a second",
            Self::Mapped => "growth of what brk, mmap and munmap map, by the minute",
            Self::Live => "allocated since it is traced, and not freed",
            Self::LiveGrowth => "growth of LIVE, by the minute",
            Self::Allocs => "allocations a second",
            Self::Frees => "frees a second, those of older blocks not included",
            Self::Cost => "of one processor, the least that tracing takes",
            Self::Site => "who asked for most of LIVE",
            Self::Cgroup => "control group (v2)",
            Self::Command => "arguments, or the name in their place",
        }
    }

    /// The column called `name` in filters or headings.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let named = |column: &Self| column.name() == name || column.title().to_ascii_lowercase() == name;
        Self::ALL.into_iter().find(named)
    }

    /// Characters that it takes; those of texts that can be cut are the fewest that make sense.
    pub fn width(self) -> u16 {
        match self {
            Self::Pid => 7,
            Self::User => 8,
            Self::Mem | Self::Virt | Self::Res | Self::Heap | Self::Live => 5,
            Self::Growth | Self::LiveGrowth | Self::Frees => 7,
            Self::Mapped | Self::Cost => 6,
            Self::Trend => super::row::TREND as u16,
            Self::Faults => 5,
            Self::Allocs => 8,
            Self::Site => 16,
            Self::Cgroup => 20,
            Self::Command => 12,
        }
    }

    /// Whether it takes what room is left.
    pub fn stretches(self) -> bool {
        matches!(self, Self::Site | Self::Cgroup | Self::Command)
    }

    /// Whether its cells stand to the right.
    pub fn is_number(self) -> bool {
        !matches!(self, Self::User | Self::Trend | Self::Site | Self::Cgroup | Self::Command)
    }

    /// Sort and filter by this.
    pub fn value(self, row: &Row) -> Value<'_> {
        let number = |number: Option<f64>| number.map_or(Value::Missing, Value::Number);
        let traced = row.traced.as_ref();
        match self {
            Self::Pid => Value::Number(f64::from(row.identity.pid)),
            Self::User => Value::Text(&row.about.user),
            Self::Mem => Value::Number(row.mem_percent),
            Self::Virt => Value::Number(row.virt as f64),
            Self::Res => Value::Number(row.res as f64),
            Self::Heap => Value::Number(row.heap as f64),
            Self::Growth | Self::Trend => number(row.growth),
            Self::Faults => number(row.faults_per_s),
            Self::Mapped => number(row.mapped),
            Self::Live => number(traced.map(|traced| traced.live_bytes as f64)),
            Self::LiveGrowth => number(traced.and_then(|traced| traced.growth)),
            Self::Allocs => number(traced.and_then(|traced| traced.allocs_per_s)),
            Self::Frees => number(traced.and_then(|traced| traced.frees_per_s)),
            // In percent, as it is shown.
            Self::Cost => number(traced.and_then(|traced| traced.cost).map(|cost| cost * 100.0)),
            Self::Site => {
                traced.and_then(|traced| traced.top_site.as_deref()).map_or(Value::Missing, Value::Text)
            }
            Self::Cgroup if row.about.cgroup.is_empty() => Value::Missing,
            Self::Cgroup => Value::Text(&row.about.cgroup),
            Self::Command => Value::Text(row.command()),
        }
    }

    /// What a cell shows: `-` where nothing was measured, which is not 0.
    pub fn cell<'a>(self, row: &'a Row) -> Cow<'a, str> {
        match (self, self.value(row)) {
            (Self::Trend, _) => Cow::Owned(spark(&row.trend)),
            (_, Value::Missing) => Cow::Borrowed("-"),
            // Scripts are given as arguments, lines and all.
            (Self::Command, Value::Text(text)) => {
                let words: Vec<&str> = without_folder(text).split_whitespace().collect();
                Cow::Owned(printable(&words.join(" ")).into_owned())
            }
            (_, Value::Text(text)) => printable(text),
            (_, Value::Number(number)) => Cow::Owned(match self {
                Self::Pid => row.identity.pid.to_string(),
                Self::Mem => format!("{number:.1}"),
                Self::Growth | Self::Mapped | Self::LiveGrowth => amount::signed_bytes(number),
                Self::Faults | Self::Allocs | Self::Frees => amount::count(number),
                Self::Cost => amount::percent(number / 100.0),
                _ => amount::bytes(number as u64),
            }),
        }
    }
}

/// A command line without the folder of its program.
fn without_folder(command: &str) -> &str {
    let program = command.split(' ').next().unwrap_or_default();
    program
        .rfind('/')
        .and_then(|slash| command.get(slash + 1..))
        .filter(|rest| !rest.is_empty())
        .unwrap_or(command)
}

/// Bars from the least to the most. What changes by less than 1 % is flat: else noise would look like a mountain.
pub fn spark(values: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (least, most) =
        (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
    let span = (most - least).max(most / 100).max(1);
    let bar = |value: &u64| {
        let step = u128::from(value - least) * (BARS.len() as u128 - 1) / u128::from(span);
        BARS.get(step as usize).copied().unwrap_or('█')
    };
    values.iter().map(bar).collect()
}

/// The columns of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// With their widths, in order.
    pub columns: Vec<(Column, u16)>,
    /// Those that found no room, the most important first.
    pub left_out: Vec<Column>,
}

/// What fits into `width` with a blank between columns; `traced`: something has probes; `cgroup` was asked for.
pub fn fit(width: u16, traced: bool, cgroup: bool) -> Fit {
    use Column::*;
    const CHEAP: [Column; 10] = [Pid, Command, Growth, Res, Heap, Trend, Faults, User, Mem, Virt];
    const TRACED: [Column; 6] = [Live, LiveGrowth, Allocs, Site, Frees, Cost];
    let mut wanted = Vec::new();
    // With probes somewhere, their numbers are what people look at.
    let (first, then) = CHEAP.split_at(if traced { 4 } else { CHEAP.len() });
    wanted.extend(first);
    wanted.extend(cgroup.then_some(Cgroup));
    wanted.extend(TRACED.iter().filter(|_| traced));
    wanted.extend(then);
    wanted.push(Mapped);
    let mut room = width;
    let (mut taken, mut left_out) = (Vec::new(), Vec::new());
    for column in wanted {
        let needed = column.width() + u16::from(!taken.is_empty());
        // The first of all are cut rather than left out.
        if needed <= room || taken.len() < 2 {
            taken.push(column);
            room = room.saturating_sub(needed);
        } else {
            left_out.push(column);
        }
    }
    let stretching = taken.iter().filter(|column| column.stretches()).count().max(1) as u16;
    let columns = Column::ALL.into_iter().filter(|column| taken.contains(column));
    let columns = columns.map(|column| {
        let more = if column.stretches() { room / stretching } else { 0 };
        // What cannot be shared goes to the last.
        let rest = if column == Command { room % stretching } else { 0 };
        (column, column.width() + more + rest)
    });
    Fit { columns: columns.collect(), left_out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(fit: &Fit) -> Vec<&'static str> {
        fit.columns.iter().map(|(column, _)| column.name()).collect()
    }

    #[test]
    fn eighty_columns_have_room_for_what_matters() {
        let cheap = fit(80, false, false);
        assert_eq!(
            names(&cheap),
            ["pid", "user", "mem", "virt", "res", "heap", "growth", "trend", "faults", "command"]
        );
        let traced = fit(80, true, false);
        assert!(names(&traced).contains(&"live") && names(&traced).contains(&"site"), "{:?}", names(&traced));
    }

    #[test]
    fn a_narrow_table_keeps_the_process_and_its_growth() {
        let narrow = fit(34, false, false);
        assert_eq!(names(&narrow), ["pid", "res", "growth", "command"]);
        assert_eq!(narrow.left_out.first(), Some(&Column::Heap));
    }

    #[test]
    fn a_command_is_shown_without_its_folder() {
        let shown =
            ["/usr/bin/redis-server *:6379", "postgres: walwriter /x", "-bash", "/"].map(without_folder);
        assert_eq!(shown, ["redis-server *:6379", "postgres: walwriter /x", "-bash", "/"]);
    }

    #[test]
    fn small_changes_are_flat_and_large_ones_are_steps() {
        assert_eq!(spark(&[1000, 1001, 1002]), "▁▁▂");
        assert_eq!(spark(&[0, 50, 100]), "▁▄█");
        assert_eq!(spark(&[]), "");
        assert_eq!(spark(&[0, u64::MAX]), "▁█");
    }

    #[test]
    fn columns_are_found_by_both_their_names() {
        for column in Column::ALL {
            assert_eq!(Column::named(column.name()), Some(column));
            assert_eq!(Column::named(column.title()), Some(column));
        }
    }

    proptest! {
        #[test]
        fn whatever_the_width_the_columns_fit(width in 20_u16..400, traced: bool, cgroup: bool) {
            let fit = fit(width, traced, cgroup);
            let sum: u16 = fit.columns.iter().map(|(_, width)| width).sum();
            prop_assert!(sum + fit.columns.len() as u16 - 1 <= width);
            let all = fit.columns.len() + fit.left_out.len();
            prop_assert_eq!(all, 11 + usize::from(cgroup) + if traced { 6 } else { 0 });
        }
    }
}
