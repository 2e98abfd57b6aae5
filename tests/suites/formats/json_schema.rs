//! The JSON report, of each mode and view, against the schema in docs: by a validator that is strict about keys that the schema
//! does not name, and by python's, which knows all of JSON Schema.

use crate::{
    recorded::{Recorded, printed},
    schema,
};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::{Program, installed},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Validates each file after the schema.
const VALIDATE: &str = "
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for name in sys.argv[2:]:
    errors = list(validator.iter_errors(json.load(open(name))))
    for error in errors[:5]:
        print(name, '/'.join(map(str, error.absolute_path)), error.message)
print('valid:', len(sys.argv) - 2)
";

fn schema_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/report.schema.json")
}

/// Why python cannot be asked, if so.
pub fn missing() -> Option<String> {
    let asked = Command::new("/usr/bin/python3").args(["-c", "import jsonschema"]).output();
    let has = asked.is_ok_and(|output| output.status.success());
    (!has).then(|| "python's jsonschema is not installed (Debian package: python3-jsonschema)".to_owned())
}

pub fn valid() -> Result<()> {
    let root: Value = serde_json::from_str(&fs::read_to_string(schema_file())?)?;
    let mut command = Command::new(installed("python3", &["/usr/bin"])?);
    command.args(["-c", VALIDATE]).arg(schema_file());
    let mut reports = 0;
    let mut check = |folder: &Path, options: &[&str]| -> Result<Value> {
        let mut report = heaptrace::command(&[&["report", "--format", "json"], options].concat())?;
        let report = printed(report.arg(heaptrace::record_file(folder)))?;
        let json: Value = serde_json::from_str(&report)?;
        schema::check(&json, &root, &root, "report").with_context(|| format!("{options:?}"))?;
        let file = folder.join(format!("checked-{reports}.json"));
        fs::write(&file, report)?;
        command.arg(file);
        reports += 1;
        Ok(json)
    };
    let whole = Recorded::get()?;
    for options in [
        &[][..],
        &["--view", "alloc", "--min-bytes", "1500"],
        &["--view", "sizes"],
        &["--view", "growth"],
        &["--view", "rss"],
    ] {
        let json = check(whole.folder(), options)?;
        ensure!(json["mode"] == "exact" && !json["processes"][0]["rss"].is_null(), "{options:?}: {json}");
    }
    // Its memory may not have been measured by then.
    let peak = check(whole.folder(), &["--view", "peak"])?["part"]["to_s"].as_f64().context("no peak")?;
    let since = check(whole.folder(), &["--from", &format!("{:.3}s", peak + 0.001)])?;
    ensure!(since["part"]["kind"] == "span", "{}", since["part"]);
    let mut others = Vec::new();
    for (mode, trace) in [
        ("exact", &["--threads", "--lifetimes", "--check-frees"][..]),
        ("sampled", &["--sample", "32k"]),
        ("allocs", &["--trace", "allocs"]),
        ("growth", &["--trace", "growth"]),
        ("faults", &["--trace", "faults"]),
        ("native", &["--trace", "native"]),
    ] {
        let folder = TempDir::new()?;
        let mut record = heaptrace::command(&[&["record"], trace, &["-o"]].concat())?;
        record.arg(heaptrace::record_file(folder.path())).args(heaptrace::COMMAND);
        let program = match mode {
            // It tells of samples.
            "native" => Program::CWith("offering", &["-O2"]),
            _ => Program::C("mixed"),
        };
        let recorded = record.arg(program.compile()?).arg("5000").output()?;
        ensure!(recorded.status.success(), "{mode}: {}", String::from_utf8_lossy(&recorded.stderr));
        let json = check(folder.path(), &[])?;
        ensure!(json["mode"] == mode && json["sites"][0].is_object(), "{mode}: {json}");
        let estimated = json["sites"][0]["estimate"].is_object();
        ensure!(estimated == matches!(mode, "sampled" | "native"), "{mode}: {}", json["sites"][0]);
        // Python is still to read it.
        others.push(folder);
    }
    let said = printed(&mut command)?;
    ensure!(said.trim() == format!("valid: {reports}"), "{said}");
    Ok(())
}
