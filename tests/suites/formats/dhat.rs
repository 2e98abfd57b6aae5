//! DHAT's JSON in the code of valgrind's own viewer, which node runs without a page.

use crate::recorded::{PEAK, Recorded, printed, sum};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{live::number, programs::installed};
use serde_json::Value;
use std::{fs, process::Command};

/// What is run behind the viewer's code: its tree, made as when a file is opened, and of that the sums, with all that is below
/// functions of a name.
const VIEW: &str = r#"
gData = JSON.parse(require("fs").readFileSync(process.argv[2], "utf8"));
gSelect = { childNodes: gSelectData.map(() => ({})), selectedIndex: 0 };
buildTree();
const below = (t, name) => t._frames.some((frame) => gData.ftbl[frame].includes(`: ${name} (`))
    ? [t._totalBytes, t._totalBlocks, t._atTGmaxBytes, t._atTEndBytes]
    : (t._kids || []).map((kid) => below(kid, name)).reduce((a, b) => a.map((n, i) => n + b[i]), [0, 0, 0, 0]);
console.log(JSON.stringify({
    total: gRoot._totalBytes, blocks: gRoot._totalBlocks, peak: gRoot._atTGmaxBytes, end: gRoot._atTEndBytes,
    endBlocks: gRoot._atTEndBlocks, sitePeak: below(gRoot, "site_peak"), tg: gData.tg, te: gData.te, pid: gData.pid,
}));
"#;

/// What the viewer has of a file.
fn view(recorded: &Recorded) -> Result<Value> {
    let file = recorded.export("dhat.out.1", &[])?;
    let viewer = installed("dh_view.js", &["/usr/libexec/valgrind", "/usr/lib/x86_64-linux-gnu/valgrind"])?;
    let script = recorded.folder().join("view.js");
    // All that it asks of a page before a file is opened is to have a title.
    fs::write(&script, format!("globalThis.document = {{}};\n{}{VIEW}", fs::read_to_string(&viewer)?))?;
    let mut command = Command::new(installed("node", &["/usr/bin", "/usr/local/bin"])?);
    let view = printed(command.arg(script).arg(&file))?;
    serde_json::from_str(&view).context(view)
}

/// Parent and children, which share stacks: the viewer takes none twice.
pub fn several(recorded: &Recorded) -> Result<()> {
    let (view, report) = (view(recorded)?, recorded.json()?);
    for (key, expected) in [
        ("total", sum(&report, |process| process.alloc_bytes)),
        ("blocks", sum(&report, |process| process.alloc_count)),
        ("end", sum(&report, |process| process.live_bytes)),
    ] {
        ensure!(number(&view, key)? == expected, "{key} is not {expected}: {view}");
    }
    Ok(())
}

pub fn viewed() -> Result<()> {
    let recorded = Recorded::get()?;
    let (view, report) = (view(recorded)?, recorded.json()?);
    let process = recorded.process(&report)?;
    for (key, expected) in [
        ("total", process.alloc_bytes),
        ("blocks", process.alloc_count),
        ("end", process.live_bytes),
        ("endBlocks", process.live_count),
    ] {
        ensure!(number(&view, key)? == expected, "{key} is not {expected}: {view}");
    }
    let peak = number(&view, "peak")?;
    ensure!((PEAK..=process.peak_live_bytes).contains(&peak), "{peak} at the peak: {view}");
    ensure!(number(&view, "tg")? < number(&view, "te")?, "the end is the peak: {view}");
    ensure!(view["pid"] == recorded.pid.to_string().as_str(), "{view}");
    // All at the peak, and the first one in the end.
    let all: u64 = (0..61).map(|n| 30_011 + 2 * n).sum();
    ensure!(view["sitePeak"] == serde_json::json!([all, 61, all, 30_011]), "{view}");
    Ok(())
}
