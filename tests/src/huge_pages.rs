//! Huge pages that are set aside for a test, and given back after it.

use anyhow::{Result, ensure};
use std::fs;

const POOL: &str = "/proc/sys/vm/nr_hugepages";

/// More than as many as there were, until it is dropped.
pub struct HugePages {
    before: u64,
}

impl HugePages {
    /// Why there can be none, if so.
    pub fn missing() -> Option<String> {
        let written = fs::File::options().write(true).open(POOL);
        written.err().map(|error| format!("{POOL} cannot be written to: {error}"))
    }

    /// # Errors
    /// If the kernel finds fewer than `wanted`.
    pub fn set_aside(wanted: u64) -> Result<Self> {
        let there = || -> Result<u64> { Ok(fs::read_to_string(POOL)?.trim().parse()?) };
        let pool = Self { before: there()? };
        // Makes room where memory is in pieces.
        fs::write("/proc/sys/vm/compact_memory", "1")?;
        fs::write(POOL, (pool.before + wanted).to_string())?;
        let got = there()?.saturating_sub(pool.before);
        ensure!(got == wanted, "the kernel has room for {got} huge pages, not {wanted}");
        Ok(pool)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // Who sees them later sees what was there before, too.
        let _ = fs::write(POOL, self.before.to_string());
    }
}
