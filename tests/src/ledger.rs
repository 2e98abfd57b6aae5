//! What the test programs say they did.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, ops::AddAssign, path::Path};

/// Bytes and counts of one site of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub alloc_bytes: u64,
    pub alloc_count: u64,
    pub free_bytes: u64,
    pub free_count: u64,
    pub live_bytes: u64,
    pub live_count: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        let Self { alloc_bytes, alloc_count, free_bytes, free_count, live_bytes, live_count } = other;
        self.alloc_bytes += alloc_bytes;
        self.alloc_count += alloc_count;
        self.free_bytes += free_bytes;
        self.free_count += free_count;
        self.live_bytes += live_bytes;
        self.live_count += live_count;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alloc_bytes, alloc_count, free_bytes, free_count, live_bytes, live_count } = self;
        write!(
            f,
            "allocated {alloc_bytes:>11} B in {alloc_count:>8}, freed {free_bytes:>11} B in {free_count:>8}, \
             live {live_bytes:>11} B in {live_count:>8}"
        )
    }
}

/// How many blocks there are of each bit length: sums alone would not show sizes that were mixed up.
pub type Sizes = BTreeMap<u32, u64>;

/// The ledger of one process, over all images that it was.
#[derive(Debug, Default)]
pub struct ProcessLedger {
    pub sites: BTreeMap<String, Figures>,
    /// Of each site, blocks by the bit length of their size.
    pub sizes: BTreeMap<String, Sizes>,
    pub failed: u64,
    /// Frees of blocks from before the tracer attached.
    pub pre_attach_frees: u64,
    /// Frees of blocks that the parent of a fork had allocated under the tracer.
    pub inherited_frees: u64,
}

/// The ledgers by PID.
#[derive(Debug, Default)]
pub struct Ledger(pub BTreeMap<u32, ProcessLedger>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Site {
        pid: u32,
        site: String,
        alloc_bytes: u64,
        alloc_count: u64,
        free_bytes: u64,
        free_count: u64,
        released: bool,
        sizes: Vec<(u32, u64)>,
    },
    Process {
        pid: u32,
        failed: u64,
        pre_attach_frees: u64,
        inherited_frees: u64,
    },
}

impl Ledger {
    /// Reads the file that the programs of one session appended to.
    ///
    /// # Errors
    /// When it is missing, malformed or empty: a program that ends before it wrote its ledger proves nothing.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context("the program left no ledger")?;
        let mut ledger = Self::default();
        for line in text.lines() {
            let line: Line =
                serde_json::from_str(line).with_context(|| format!("bad ledger line {line:?}"))?;
            match line {
                Line::Site {
                    pid,
                    site,
                    alloc_bytes,
                    alloc_count,
                    free_bytes,
                    free_count,
                    released,
                    sizes,
                } => {
                    let (live_bytes, live_count) =
                        if released { (0, 0) } else { (alloc_bytes - free_bytes, alloc_count - free_count) };
                    let process = ledger.0.entry(pid).or_default();
                    let known = process.sizes.entry(site.clone()).or_default();
                    sizes.into_iter().for_each(|(bits, count)| *known.entry(bits).or_default() += count);
                    *process.sites.entry(site).or_default() +=
                        Figures { alloc_bytes, alloc_count, free_bytes, free_count, live_bytes, live_count };
                }
                Line::Process { pid, failed, pre_attach_frees, inherited_frees } => {
                    let process = ledger.0.entry(pid).or_default();
                    process.failed += failed;
                    process.pre_attach_frees += pre_attach_frees;
                    process.inherited_frees += inherited_frees;
                }
            }
        }
        if ledger.0.is_empty() {
            bail!("the ledger is empty");
        }
        Ok(ledger)
    }

    /// The ledger of the process that was started, or fails if there is none.
    pub fn process(&self, pid: u32) -> Result<&ProcessLedger> {
        self.0.get(&pid).with_context(|| format!("no ledger of process {pid}"))
    }
}
