//! The heap as a picture for a browser: a map of each arena, in which a tooltip tells addresses and bytes.

use super::{Inspection, text};
use crate::allocators::glibc::{
    Glibc,
    arena::{Arena, Count},
    picture::Picture,
};
use crate::printable::printable;
use crate::units::{counted, human, percent};
use quick_xml::{Writer, events::BytesText};
use std::{
    fmt::Write as _,
    io::{self, Write},
    ops::Range,
};

type Xml<'a> = Writer<&'a mut dyn Write>;

const WIDTH: usize = 1200;
/// Where a line of cells begins; addresses are to the left of it.
const LEFT: usize = 160;
/// Cells of a line.
const LINE: usize = 64;
/// Pixels of a cell.
const CELL: usize = 16;
const HEIGHT: usize = 20;
/// From line to line, of cells and of text.
const CELL_PITCH: usize = 23;
const TEXT_PITCH: usize = 18;

/// Cells of all arenas together, at about 150 bytes of file each: with more arenas than can have all theirs, cells
/// are joined.
const MOST_CELLS: usize = 8192;

/// What is told apart, from the bottom of a cell up. Colours differ in lightness, too, for who cannot see hues.
const PARTS: [(&str, &str, &str); 5] = [
    ("in use", "used", "#2f5f8f"),
    ("free in caches", "parked", "#e0912f"),
    ("free in bins", "free", "#f3e3b3"),
    ("top", "top", "#d9ecd9"),
    ("headers, or not read", "rest", "#b5b5b5"),
];

const STYLE: &str = "text{font:13px sans-serif;fill:#222}.title{font-size:20px}.arena{font-weight:bold}\
    .address{font:11px monospace;fill:#555;text-anchor:end}.warning{fill:#b00000;font-weight:bold}\
    .cell{fill:transparent}.cell:hover{stroke:#000;stroke-width:1.5}";

/// Bytes of each of [`PARTS`].
type Bytes = [u64; PARTS.len()];

/// Writes the picture of `glibc`, which was found in `found`.
pub fn render(found: &Inspection, glibc: &Glibc, out: &mut dyn Write) -> io::Result<()> {
    let maps: Vec<Map<'_>> = glibc.arenas.iter().map(|arena| Map::new(arena, glibc.arenas.len())).collect();
    let head = head(found, glibc);
    let mut place = TEXT_PITCH * (head.len() + 2) + 30;
    let places = maps.iter().map(|map| {
        let at = place;
        place += map.height();
        at
    });
    let places: Vec<usize> = places.collect();
    let mut xml = Writer::new_with_indent(out, b' ', 0);
    let view = format!("0 0 {WIDTH} {place}");
    xml.create_element("svg")
        .with_attribute(("xmlns", "http://www.w3.org/2000/svg"))
        .with_attribute(("viewBox", view.as_str()))
        .with_attribute(("width", WIDTH.to_string().as_str()))
        .with_attribute(("height", place.to_string().as_str()))
        .write_inner_content(|xml| {
            xml.create_element("style").write_text_content(BytesText::new(&style()))?;
            xml.create_element("rect")
                .with_attribute(("width", "100%"))
                .with_attribute(("height", "100%"))
                .with_attribute(("fill", "#fff"))
                .write_empty()?;
            for (index, (class, line)) in head.iter().enumerate() {
                write_text(xml, class, 10, 28 + TEXT_PITCH * index, line)?;
            }
            legend(xml, glibc, 28 + TEXT_PITCH * head.len())?;
            (0..).zip(maps.iter().zip(&places)).try_for_each(|(index, (map, at))| map.write(xml, index, *at))
        })?;
    writeln!(xml.into_inner())
}

fn style() -> String {
    PARTS.iter().fold(STYLE.to_owned(), |mut style, (_, class, colour)| {
        // Writing to a String does not fail.
        let _ = write!(style, ".{class}{{fill:{colour}}}");
        style
    })
}

/// What is said of the heap as a whole, each line with its class.
fn head(found: &Inspection, glibc: &Glibc) -> Vec<(&'static str, String)> {
    let Glibc { version, found_by: _, arenas, mmapped, tcaches, mallinfo, consistent: _, problems } = glibc;
    let name = printable(&found.comm);
    let mut lines = vec![
        ("title", format!("Heap of {name}, process {}", found.pid)),
        ("", format!("{} (glibc {version}'s malloc)", printable(&found.exe))),
    ];
    let mut sums = format!(
        "{} from the system in {}; {} of threads with free blocks",
        human(mallinfo.arena),
        counted(arenas.len() as u64, "arena", "arenas"),
        counted(*tcaches, "cache", "caches")
    );
    if let Some(Count { blocks, bytes }) = mmapped.filter(|count| count.blocks > 0) {
        let blocks = counted(blocks, "block", "blocks");
        // Writing to a String does not fail.
        let _ = write!(sums, "; not drawn: {} in {blocks} with a mapping of their own", human(bytes));
    }
    lines.push(("", sums));
    lines.extend(problems.iter().map(|problem| ("warning", problem.clone())));
    lines
}

fn legend(xml: &mut Xml<'_>, glibc: &Glibc, y: usize) -> io::Result<()> {
    let sums = glibc.arenas.iter().fold(Bytes::default(), |mut sums, arena| {
        let sizes = [
            arena.in_use.bytes,
            arena.tcache.bytes.saturating_add(arena.fastbins.bytes),
            [arena.unsorted, arena.small, arena.large]
                .iter()
                .fold(0, |sum: u64, count| sum.saturating_add(count.bytes)),
            arena.top_bytes,
        ];
        let known = sizes.iter().fold(0, |sum: u64, size| sum.saturating_add(*size));
        let sizes = sizes.into_iter().chain([arena.system_bytes.saturating_sub(known)]);
        sums.iter_mut().zip(sizes).for_each(|(sum, size)| *sum = sum.saturating_add(size));
        sums
    });
    let mut x = 10;
    for ((name, class, _), bytes) in PARTS.iter().zip(sums) {
        square(xml, class, x, y - 11)?;
        let share = percent(bytes, glibc.mallinfo.arena);
        let label = format!("{name}: {} ({share:.1} %)", human(bytes));
        write_text(xml, "", x + 18, y, &label)?;
        // The font's width is not known here: about 7 pixels a character.
        x += 36 + 13 * label.len() / 2;
    }
    Ok(())
}

fn square(xml: &mut Xml<'_>, class: &str, x: usize, y: usize) -> io::Result<()> {
    let path = format!("M{x} {y}h13v13h-13z");
    xml.create_element("path")
        .with_attribute(("class", class))
        .with_attribute(("stroke", "#888"))
        .with_attribute(("d", path.as_str()))
        .write_empty()
        .map(|_| ())
}

fn write_text(xml: &mut Xml<'_>, class: &str, x: usize, y: usize, text: &str) -> io::Result<()> {
    let mut element = xml.create_element("text");
    if !class.is_empty() {
        element = element.with_attribute(("class", class));
    }
    element
        .with_attribute(("x", x.to_string().as_str()))
        .with_attribute(("y", y.to_string().as_str()))
        .write_text_content(BytesText::new(&allowed(text)))
        .map(|_| ())
}

/// Without the characters that XML has no place for, beyond those that [`printable`] takes out.
fn allowed(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "?")
}

/// One arena with its lines of text and of cells.
struct Map<'a> {
    arena: &'a Arena,
    /// Each with how many bytes it lies over.
    cells: Vec<(u64, Bytes)>,
    cell_bytes: u64,
}

impl<'a> Map<'a> {
    fn new(arena: &'a Arena, arenas: usize) -> Self {
        let picture = &arena.picture;
        let most = (MOST_CELLS / arenas.max(1)).max(LINE / 4);
        let joined = picture.used.len().div_ceil(most).max(1);
        let cell_bytes = picture.cell_bytes.saturating_mul(joined as u64);
        let total = picture.total();
        let sum = |of: &[u64], cell: usize| {
            let cells = of.iter().skip(cell * joined).take(joined);
            cells.fold(0, |sum: u64, bytes| sum.saturating_add(*bytes))
        };
        let cells = (0..picture.used.len().div_ceil(joined)).map(|cell| {
            let size = cell_bytes.min(total.saturating_sub(cell_bytes.saturating_mul(cell as u64)));
            let Picture { used, parked, free, top, .. } = picture;
            let [used, parked, free, top] = [used, parked, free, top].map(|of| sum(of, cell).min(size));
            let known = [used.saturating_sub(parked), parked.min(used), free, top];
            let rest = known.iter().fold(size, |left, bytes| left.saturating_sub(*bytes));
            (size, [known[0], known[1], known[2], known[3], rest])
        });
        Self { arena, cells: cells.collect(), cell_bytes }
    }

    fn lines(&self, index: usize) -> Vec<(&'static str, String)> {
        let arena = self.arena;
        let main = if arena.main { ", the main one" } else { "" };
        let mut lines = vec![(
            "arena",
            format!(
                "Arena {index}{main}: {} from the system, {}, {}",
                human(arena.system_bytes),
                counted(arena.heaps.len() as u64, "heap", "heaps"),
                counted(arena.attached_threads, "thread", "threads")
            ),
        )];
        lines.extend(text::problem(arena).map(|problem| ("warning", problem)));
        let of = |name: &str, count: Count| {
            format!("{name} {} in {}", human(count.bytes), counted(count.blocks, "block", "blocks"))
        };
        let join = |counts: &[Count]| {
            counts.iter().fold(Count::default(), |sum, count| Count {
                blocks: sum.blocks.saturating_add(count.blocks),
                bytes: sum.bytes.saturating_add(count.bytes),
            })
        };
        lines.push((
            "",
            [
                of("in use", arena.in_use),
                of("free in caches (tcache, fastbins)", join(&[arena.tcache, arena.fastbins])),
                of("free in bins", join(&[arena.unsorted, arena.small, arena.large])),
                format!("top {}", human(arena.top_bytes)),
            ]
            .join(", "),
        ));
        let mut last = format!(
            "largest free block {}, fragmentation {:.2}, malloc_trim could give back {} at most",
            human(arena.largest_free_bytes),
            arena.fragmentation,
            human(arena.trimmable_bytes)
        );
        if !self.cells.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(last, "; each cell {}", human(self.cell_bytes));
        }
        lines.push(("", last));
        lines
    }

    fn height(&self) -> usize {
        TEXT_PITCH * (self.lines(0).len() + 1) + CELL_PITCH * self.cells.len().div_ceil(LINE)
    }

    fn write(&self, xml: &mut Xml<'_>, index: usize, place: usize) -> io::Result<()> {
        let lines = self.lines(index);
        for (line, (class, text)) in lines.iter().enumerate() {
            write_text(xml, class, 10, place + TEXT_PITCH * line, text)?;
        }
        let top = place + TEXT_PITCH * lines.len() - 8;
        for (line, cells) in self.cells.chunks(LINE).enumerate() {
            let from = self.cell_bytes.saturating_mul((line * LINE) as u64);
            self.write_line(xml, cells, from, top + CELL_PITCH * line)?;
        }
        Ok(())
    }

    /// One line of cells at `y`, the first of which begins `from` bytes into the arena's heaps.
    fn write_line(&self, xml: &mut Xml<'_>, cells: &[(u64, Bytes)], from: u64, y: usize) -> io::Result<()> {
        let picture = &self.arena.picture;
        if let Some(first) = picture.addresses(from..from.saturating_add(1)).first() {
            write_text(xml, "address", LEFT - 8, y + 14, &format!("{:#x}", first.start))?;
        }
        let position = format!("translate({LEFT} {y})");
        xml.create_element("g").with_attribute(("transform", position.as_str())).write_inner_content(
            |xml| {
                // What lies highest first, each over the ones before.
                for part in (0..PARTS.len()).rev() {
                    let Some(path) = outline(cells, part) else { continue };
                    xml.create_element("path")
                        .with_attribute(("class", PARTS[part].1))
                        .with_attribute(("d", path.as_str()))
                        .write_empty()?;
                }
                let mut cell = 0;
                for alike in cells.chunk_by(|one, other| one == other) {
                    let size = alike.iter().fold(0, |sum: u64, (size, _)| sum.saturating_add(*size));
                    let begin = from.saturating_add(self.cell_bytes.saturating_mul(cell as u64));
                    let bytes = alike[0].1.map(|bytes| bytes.saturating_mul(alike.len() as u64));
                    let title = title(picture, begin..begin.saturating_add(size), bytes);
                    let (x, width) = (CELL * cell, CELL * alike.len());
                    xml.create_element("path")
                        .with_attribute(("class", "cell"))
                        .with_attribute(("d", format!("M{x} 0h{width}v{HEIGHT}h-{width}z").as_str()))
                        .write_inner_content(|xml| {
                            xml.create_element("title").write_text_content(BytesText::new(&title))?;
                            Ok(())
                        })?;
                    cell += alike.len();
                }
                Ok(())
            },
        )?;
        Ok(())
    }
}

/// Addresses and bytes of each part that is there.
fn title(picture: &Picture, range: Range<u64>, bytes: Bytes) -> String {
    let addresses = picture.addresses(range);
    let addresses: Vec<_> =
        addresses.iter().map(|range| format!("{:#x}-{:#x}", range.start, range.end)).collect();
    let parts = PARTS.iter().zip(bytes).filter(|(_, bytes)| *bytes > 0);
    let parts: Vec<_> = parts.map(|((name, ..), bytes)| format!("{} {name}", human(bytes))).collect();
    format!("{}: {}", addresses.join(" and "), parts.join(", "))
}

/// The area of all parts up to `part`, as a path; `None` if that part is in no cell.
fn outline(cells: &[(u64, Bytes)], part: usize) -> Option<String> {
    cells.iter().any(|(_, bytes)| bytes[part] > 0).then_some(())?;
    let mut path = format!("M0 {HEIGHT}");
    // In tenths of a pixel from above, and something for everything that is there.
    let top = |(size, bytes): &(u64, Bytes)| {
        let filled = bytes[..=part].iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        let whole = 10 * HEIGHT as u128;
        whole - (u128::from(filled) * whole).div_ceil(u128::from((*size).max(1))).min(whole)
    };
    for alike in cells.chunk_by(|one, other| top(one) == top(other)) {
        let top = top(&alike[0]);
        // Writing to a String does not fail.
        let _ = match top % 10 {
            0 => write!(path, "V{}h{}", top / 10, CELL * alike.len()),
            tenth => write!(path, "V{}.{tenth}h{}", top / 10, CELL * alike.len()),
        };
    }
    let _ = write!(path, "V{HEIGHT}z");
    Some(path)
}
