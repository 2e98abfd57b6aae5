//! Node.js: V8's own heap is of mappings; what is outside it, buffers above all, comes from the C library. Its stacks go
//! through generated code, which only frame pointers lead out of.

use crate::sanity;
use anyhow::{Result, ensure};
use heaptrace_tests::{heaptrace, programs::installed, running::Running, session::Start};
use tempfile::TempDir;

/// Odd, unique, and far beyond what anything else asks for.
const SIZES: [u64; 3] = [9_000_017, 9_100_037, 9_200_053];

pub fn buffers() -> Result<()> {
    let folder = TempDir::new()?;
    let script = format!(
        "const kept = {SIZES:?}.map(size => Buffer.alloc(size, 1)); let text = '';
         for (let i = 0; i < 20000; i++) text += JSON.stringify({{i, half: i / 2}});
         console.log('length=' + text.length, kept.length)"
    );
    let mut command = heaptrace::command(&["record", "-o"])?;
    command
        .arg(heaptrace::record_file(folder.path()))
        .args(heaptrace::COMMAND)
        .arg(installed("node", &["/usr/bin", "/usr/local/bin"])?)
        .args(["-e", &script]);
    let mut recorder = Running::spawn(command, "heaptrace", folder.path())?;
    heaptrace::finish(&mut recorder)?;
    ensure!(recorder.stdout().contains("length="), "{}", recorder.describe("the script failed"));
    let report = heaptrace::report(folder.path())?;
    sanity::check(&report, &sanity::Resident::new(), Start::Command)?;
    // All of them come from one place.
    let buffers: u64 = SIZES.iter().sum();
    let found = report.sites.iter().any(|site| site.alloc_bytes >= buffers && site.stack_end == "complete");
    ensure!(found, "no whole stack has the buffers' {buffers} bytes");
    Ok(())
}
