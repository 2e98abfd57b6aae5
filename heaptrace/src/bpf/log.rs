//! The lines that the BPF programs log where they are asked to; and how nothing is made for them where they are not.

use super::{error::LoadError, taken};
use crate::printable::say;
use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use aya_log::EbpfLogger;
use heaptrace_common::log::Budget;
use log::{Log, Metadata, Record};
use object::{
    LittleEndian,
    elf::{FileHeader64, SHT_SYMTAB},
    read::elf::{FileHeader as _, SectionHeader as _},
};
use std::os::fd::{AsRawFd, RawFd};

/// The map for lines, and the map of how many there were.
const RING: &str = "AYA_LOGS";
const BUDGETS: &str = "LOG_BUDGETS";

/// What the programs are given in their place where nothing is logged: maps of the same kinds that they have anyway. What
/// would use them is dropped by the kernel, but it wants to see a map there before.
const IN_PLACE: [(&str, &str); 2] = [(RING, "EVENTS"), (BUDGETS, "CURSORS")];

/// Readable (poll) when there are lines.
pub struct LogRing {
    logger: EbpfLogger<Said>,
    budgets: Array<MapData, Lines>,
}

/// [`Budget`], for aya.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Lines(Budget);

// SAFETY: three integers.
unsafe impl aya::Pod for Lines {}

impl LogRing {
    /// Of programs that were loaded with the setting on.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let budgets = taken::take(ebpf, BUDGETS)?;
        let logger = EbpfLogger::init_with_logger(ebpf, Said)
            .map_err(|error| LoadError::Object { what: error.to_string() })?;
        Ok(Self { logger, budgets })
    }

    /// Says the lines that are there on standard error.
    pub fn say_all(&mut self) {
        self.logger.flush();
    }

    /// How many lines were too many to be logged, so far.
    pub fn left_out(&self) -> u64 {
        self.budgets.iter().flatten().map(|Lines(budget)| budget.left_out).sum()
    }
}

impl AsRawFd for LogRing {
    fn as_raw_fd(&self) -> RawFd {
        self.logger.as_raw_fd()
    }
}

/// Says each line on standard error.
struct Said;

impl Log for Said {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        say(format_args!("bpf: {}", record.args()));
    }

    fn flush(&self) {}
}

/// `object` without the maps for lines: what would use them is given others.
pub(super) fn without_log(object: &[u8]) -> Result<Vec<u8>, LoadError> {
    let broken = |error: object::Error| LoadError::Object { what: error.to_string() };
    let header = FileHeader64::<LittleEndian>::parse(object).map_err(broken)?;
    let endian = LittleEndian;
    let sections = header.sections(endian, object).map_err(broken)?;
    let symbols = sections.symbols(endian, object, SHT_SYMTAB).map_err(broken)?;
    let symbol = |name: &str| {
        let found = symbols.iter().position(|symbol| {
            symbols.symbol_name(endian, symbol).is_ok_and(|of_symbol| of_symbol == name.as_bytes())
        });
        found.ok_or_else(|| LoadError::Object { what: format!("it has no map {name}") })
    };
    let mut patched = object.to_vec();
    let mut write = |at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if let Some(place) = at.checked_add(bytes.len()).and_then(|end| patched.get_mut(at..end)) {
            place.copy_from_slice(bytes);
        }
    };
    let table = sections.section(symbols.section()).map_err(broken)?.sh_offset.get(endian);
    for (name, other) in IN_PLACE {
        let (ours, others) = (symbol(name)?, symbol(other)?);
        for section in sections.iter() {
            let Some((relocations, _)) = section.rel(endian, object).map_err(broken)? else { continue };
            for (index, relocation) in relocations.iter().enumerate() {
                if relocation.r_sym(endian) as usize == ours {
                    let info = (others as u64) << 32 | u64::from(relocation.r_type(endian).0);
                    write(section.sh_offset.get(endian) + index as u64 * REL + R_INFO, &info.to_le_bytes());
                }
            }
        }
        // Defined nowhere, it is no map.
        write(table + ours as u64 * SYMBOL + ST_SHNDX, &object::elf::SHN_UNDEF.0.to_le_bytes());
    }
    Ok(patched)
}

/// Sizes of `Elf64_Rel` and `Elf64_Sym`, and where in them the symbol and the section are (elf(5)).
const REL: u64 = 16;
const R_INFO: u64 = 8;
const SYMBOL: u64 = 24;
const ST_SHNDX: u64 = 6;
