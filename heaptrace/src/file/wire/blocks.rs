//! The contents of blocks. The measurements of a block are a list of pairs, and have no layout of their own.

use super::{Bad, Reader, Values as _, Wire, Writer, record, values};
use crate::model::{
    Chunk, Cohorts, Coverage, Frame, Frees, GrowthId, Host, Location, LocationId, Mode, Module, Names, Notes,
    Process, ProcessId, Site, SiteId, Stack, Start, Symbol, Thread,
};

record!(Names { symbols: Vec<(LocationId, Vec<Symbol>)>, notes: Notes });

values!(Start { heaptrace: String, host: Host, started_ns: i64, mode: Mode } later { by_thread: bool, has_lifetimes: bool });

/// The minor version, then a record.
impl Wire for Start {
    fn write(&self, to: &mut Writer) {
        if to.version().is_framed() {
            to.version().minor.write(to);
        }
        to.record(|to| self.write_values(to));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        if from.version().is_framed() {
            let minor = Wire::read(from)?;
            from.set_minor(minor);
        }
        from.record(Self::read_values)
    }
}

values!(Chunk {
    duration_ns: u64,
    passed_ns: u64,
    coverage: Coverage,
    processes: Vec<(ProcessId, Process)>,
    modules: Vec<Module>,
    locations: Vec<Location>,
    symbols: Vec<(LocationId, Vec<Symbol>)>,
    frames: Vec<Frame>,
    stacks: Vec<Stack>,
    sites: Vec<(SiteId, Site)>,
    growth: Vec<(GrowthId, Site)>,
} later {
    cohorts: Vec<(SiteId, Cohorts)>,
    threads: Vec<Thread>,
    frees: Option<Box<Frees>>,
});

/// A record, since there are such.
impl Wire for Chunk {
    fn write(&self, to: &mut Writer) {
        debug_assert!(to.version().is_framed(), "chunks held all processes and all growth before");
        to.record(|to| self.write_values(to));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Bad> {
        if !from.version().is_framed() {
            return read_whole(from);
        }
        from.record(Self::read_values)
    }
}

/// A chunk of format 5 or 6, which has all processes and all growth.
fn read_whole(from: &mut Reader<'_>) -> Result<Chunk, Bad> {
    Ok(Chunk {
        duration_ns: u64::read(from)?,
        passed_ns: 0,
        coverage: Coverage::read(from)?,
        processes: from.list_of(|index, from| Ok((ProcessId(index), Process::read(from)?)))?,
        modules: Vec::<Module>::read(from)?,
        locations: Vec::<Location>::read(from)?,
        symbols: Vec::<(LocationId, Vec<Symbol>)>::read(from)?,
        frames: Vec::<Frame>::read(from)?,
        stacks: Vec::<Stack>::read(from)?,
        sites: Vec::<(SiteId, Site)>::read(from)?,
        growth: from.list_of(|index, from| Ok((GrowthId(index), Site::read(from)?)))?,
        cohorts: Vec::new(),
        threads: Vec::new(),
        frees: None,
    })
}

/// `chunk`, which has all processes and all growth, as formats 5 and 6 had it.
#[cfg(test)]
pub fn whole(chunk: &Chunk) -> Vec<u8> {
    let mut to = Writer::new(super::Version::of_header(6));
    let all: Vec<&Process> = chunk.processes.iter().map(|(_, process)| process).collect();
    let growth: Vec<&Site> = chunk.growth.iter().map(|(_, site)| site).collect();
    chunk.duration_ns.write(&mut to);
    chunk.coverage.write(&mut to);
    to.number(all.len() as u64);
    all.iter().for_each(|process| process.write(&mut to));
    chunk.modules.write(&mut to);
    chunk.locations.write(&mut to);
    chunk.symbols.write(&mut to);
    chunk.frames.write(&mut to);
    chunk.stacks.write(&mut to);
    chunk.sites.write(&mut to);
    to.number(growth.len() as u64);
    growth.iter().for_each(|site| site.write(&mut to));
    to.into_content()
}
