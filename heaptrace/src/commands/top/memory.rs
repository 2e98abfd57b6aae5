//! What the memory of a process that is not traced is made of, measured while somebody looks.

use crate::{
    allocators::Recognizer,
    model::{Residency, Traced, TracedBlocks},
    probes::discover::Discoverer,
    report::residency_lines_of,
    rss::{Limits, measure},
};
use std::time::{Duration, Instant};

/// How many times as long as measuring takes is the least time to the next: reading smaps holds up the process's mmap.
const REST: u32 = 50;

/// See the module.
pub struct Memory {
    discoverer: Discoverer,
    recognizer: Recognizer,
    last: Option<Looked>,
}

struct Looked {
    pid: u32,
    at: Instant,
    took: Duration,
    /// Why not, if it could not be measured.
    found: Result<Residency, String>,
}

impl Memory {
    pub fn new() -> Self {
        Self { discoverer: Discoverer::new(), recognizer: Recognizer::default(), last: None }
    }

    /// The parts of the resident memory of `pid`, a line each.
    pub fn lines(&mut self, pid: u32) -> Vec<String> {
        let rested = |last: &Looked| last.at.elapsed() >= (last.took * REST).max(Duration::from_secs(1));
        if self.last.as_ref().is_none_or(|last| last.pid != pid || rested(last)) {
            let began = Instant::now();
            let found = self.look(pid);
            self.last = Some(Looked { pid, at: Instant::now(), took: began.elapsed(), found });
        }
        match &self.last {
            Some(Looked { at, found: Ok(residency), .. }) => residency_lines_of(residency, at.elapsed()),
            Some(Looked { found: Err(why), .. }) => vec![format!("not measured: {why}")],
            None => Vec::new(),
        }
    }

    fn look(&mut self, pid: u32) -> Result<Residency, String> {
        let known =
            self.recognizer.recognize(&mut self.discoverer, pid).map_err(|error| error.to_string())?;
        let found = measure(pid, &known, Limits::BRIEF).map_err(|error| error.to_string())?;
        Ok(Residency {
            mappings: found.mappings,
            swap_bytes: found.swap_bytes,
            hugetlb_bytes: found.hugetlb_bytes,
            // No block is traced, and that is exact.
            traced: Traced {
                blocks: Some(TracedBlocks { exact: true, ..TracedBlocks::default() }),
                ..Traced::default()
            },
            heap: found.heap,
            ..Residency::default()
        })
    }
}
