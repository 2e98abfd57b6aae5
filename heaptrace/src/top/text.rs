//! Refreshes as plain text, for pipes and files.

use super::{
    columns::{Column, Value},
    order::Place,
    row::Row,
    sample::Header,
    view,
};
use crate::printable::printable;
use crate::units::counted;
use crate::widgets::amount;
use std::io::{self, Write};

/// Writes one refresh: the machine, a table, and what it does not cover. `places` are the rows to show; `hidden` is how
/// many more there are.
///
/// # Errors
/// What writing to `out` fails with.
pub fn render(
    header: &Header,
    rows: &[Row],
    places: &[Place],
    hidden: usize,
    first: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if !first {
        writeln!(out)?;
    }
    let memory = header.memory;
    writeln!(
        out,
        "# heaptrace top {}: {}, {} of {} memory used{}",
        header.clock,
        counted(header.processes as u64, "process", "processes"),
        amount::bytes(memory.total.saturating_sub(memory.available)),
        amount::bytes(memory.total),
        header.chosen.as_ref().map(|chosen| format!(", only {chosen}")).unwrap_or_default()
    )?;
    writeln!(out, "# {}", view::growth_in_words(&header.sources))?;
    let traced = rows.iter().any(|row| row.traced.is_some());
    if traced || header.sources.all {
        writeln!(out, "# {}", view::tracing_in_words(&header.sources))?;
    }
    for note in &header.notes {
        writeln!(out, "# {}", printable(note))?;
    }
    let columns: Vec<Column> = Column::ALL
        .into_iter()
        .filter(|column| match column {
            // Bars say nothing to a program, and the cgroup is in the JSON.
            Column::Trend | Column::Cgroup => false,
            Column::Mapped => header.sources.no_growth.is_none(),
            Column::Live
            | Column::LiveGrowth
            | Column::Allocs
            | Column::Frees
            | Column::Cost
            | Column::Site => traced,
            _ => true,
        })
        .collect();
    let line = |cell: &dyn Fn(Column) -> String| {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| {
                let (text, width) = (cell(*column), usize::from(column.width()));
                if column.is_number() { format!("{text:>width$}") } else { format!("{text:width$}") }
            })
            .collect();
        cells.join(" ").trim_end().to_owned()
    };
    writeln!(out, "{}", line(&|column| column.title().to_owned()))?;
    for place in places {
        let row = &rows[place.row];
        let cell = |column: Column| match column {
            Column::Command => format!("{}{}", place.branch, column.cell(row)),
            // One word, so that columns can be told apart.
            Column::Site => match column.value(row) {
                Value::Text(site) => printable(site).replace(' ', "_"),
                _ => "-".into(),
            },
            _ => column.cell(row).into_owned(),
        };
        writeln!(out, "{}", line(&cell))?;
    }
    if hidden > 0 {
        writeln!(out, "# {hidden} more processes not shown")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::top_rows,
        top::{
            filter::Filter,
            order::{Arrangement, arrange},
            row,
        },
    };

    fn text(traced: bool, hidden: usize) -> String {
        let (history, sample) = top_rows::history(traced);
        let rows = row::rows(&sample, &history);
        let filter = Filter::default();
        let how = Arrangement { sort: Column::Growth, reverse: false, filter: &filter, tree: traced };
        let mut places = arrange(&rows, &how);
        places.truncate(places.len() - hidden);
        let mut out = Vec::new();
        render(&top_rows::header(traced), &rows, &places, hidden, true, &mut out).expect("a table");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_table() {
        insta::assert_snapshot!(text(false, 2));
    }

    #[test]
    fn a_tree_with_a_traced_process() {
        insta::assert_snapshot!(text(true, 0));
    }
}
