//! Verdicts on small services whose blocks come, go and stay in one way each: by `leaks`, and by `record` and `report`.

use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{
    heaptrace,
    live::{Live, list},
    programs::Program,
    runner::{self, end_to_end},
    running::Running,
    terminal::Terminal,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use tempfile::TempDir;

const LEAK: &[&str] = &["leak-like"];
const CACHE: &[&str] = &["cache-like"];
const POOL: &[&str] = &["pool-like"];
const WARMING: &[&str] = &["warming-up"];
/// What fills may be full by then.
const FILLS: &[&str] = &["warming-up", "pool-like"];
/// What comes and goes, the more of it live the slower.
const TURNS: &[&str] = &["cache-like", "steady"];

/// A service.
#[derive(Clone, Copy)]
struct Service {
    language: &'static str,
    kind: &'static str,
    /// The function whose blocks are judged; of Python those with most live bytes are.
    site: &'static str,
    /// Right verdicts.
    right: &'static [&'static str],
}

const fn service(
    language: &'static str,
    kind: &'static str,
    site: &'static str,
    right: &'static [&'static str],
) -> Service {
    Service { language, kind, site, right }
}

/// Those of which leaks are told from the others soon; which of the others each is may take a busy machine longer.
const FEW: [Service; 5] = [
    service("cpp", "sessions", "open_session", LEAK),
    service("c", "leak-thread", "make_request", LEAK),
    service("c", "cache-time", "make_entry", &["cache-like", "warming-up"]),
    service("c", "pool", "make_chunk", FILLS),
    service("c", "requests", "make_request", &["cache-like", "steady", "warming-up"]),
];

const CORPUS: [Service; 24] = [
    service("c", "slow-leak", "make_request", LEAK),
    service("c", "cache-time", "make_entry", CACHE),
    service("c", "cache-count", "make_entry", CACHE),
    service("c", "cache-size", "make_entry", CACHE),
    service("c", "pool", "make_chunk", POOL),
    service("c", "batch", "make_chunk", TURNS),
    service("c", "fragments", "make_chunk", TURNS),
    service("c", "leak-large", "make_request", LEAK),
    service("c", "leak-small", "make_request", LEAK),
    service("c", "leak-realloc", "grow_buffer", LEAK),
    service("c", "requests", "make_request", TURNS),
    service("c", "warm-5", "make_entry", POOL),
    service("c", "warm-20", "make_entry", FILLS),
    service("c", "warm-60", "make_entry", FILLS),
    service("c", "warm-120", "make_entry", WARMING),
    service("c", "leak-thread", "make_request", LEAK),
    service("cpp", "sessions", "open_session", LEAK),
    service("cpp", "lru", "put", CACHE),
    service("cpp", "cycle", "make_pair_of_sessions", LEAK),
    // What waits is taken out in the end, so it is no leak; but it grows.
    service("cpp", "queue", "enqueue", WARMING),
    service("rust", "cycle", "make_node", LEAK),
    service("rust", "cache", "remember", CACHE),
    service("python", "leak", "", LEAK),
    service("python", "cache", "", CACHE),
];

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("leaks are told from caches and a pool in half a minute", || {
            let judged = judge(&FEW, 30)?;
            ensure!(judged.wrong.is_empty(), "{}", judged.table);
            Ok(())
        }),
        end_to_end(
            "of 24 services, 23 are judged rightly within a minute, and no cache is called a leak",
            corpus,
        )
        .slow(),
        end_to_end("a leak of every fourth session is named first, by its function, in text", first_in_text),
        end_to_end("a leak of every fourth session is named first, by its function, by top", first_in_top),
    ])
}

impl Service {
    fn is_leak(self) -> bool {
        self.right == LEAK
    }

    fn command(self, go: &Path) -> Result<Command> {
        let mut command = match self.language {
            "c" => Command::new(Program::C("service").compile()?),
            "cpp" => Command::new(Program::Cpp("service").compile()?),
            "rust" => Command::new(Program::Rust("service").compile()?),
            "python" => {
                let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("programs/python/service.py");
                let mut command = Command::new("python3");
                command.arg(script).env("PYTHONMALLOC", "malloc");
                command
            }
            language => bail!("no services in {language}"),
        };
        command.arg(self.kind).arg(go);
        Ok(command)
    }

    /// Whether the verdicts on its sites, the most suspicious first, are right; and what they are.
    fn check(self, sites: &[Site]) -> (bool, String) {
        let called_leak = sites.iter().find(|site| site.verdict.as_deref() == Some("leak-like"));
        let main = match called_leak {
            Some(leak) => Some(leak),
            None => sites
                .iter()
                .filter(|site| self.site.is_empty() || site.is_of(self.site))
                .max_by_key(|site| site.bytes),
        };
        let said = main.map_or("no site".to_owned(), |site| {
            format!("{}: {}", site.verdict.as_deref().unwrap_or("no verdict"), site.evidence)
        });
        let right = match (self.is_leak(), main) {
            // Nothing of it was live just then.
            (false, None) => self.right.contains(&"steady"),
            (_, None) => false,
            (true, Some(site)) => called_leak.is_some() && (self.site.is_empty() || site.is_of(self.site)),
            (false, Some(site)) => {
                let verdict = site.verdict.as_deref().unwrap_or("steady");
                called_leak.is_none() && self.right.contains(&verdict)
            }
        };
        (right, said)
    }
}

/// A site of a service, as it is printed.
struct Site {
    functions: Vec<String>,
    bytes: u64,
    verdict: Option<String>,
    evidence: String,
}

impl Site {
    fn new(row: &Value, bytes: &str) -> Result<Self> {
        let functions = list(row, "stack")?.iter().filter_map(|frame| frame["symbol"].as_str());
        Ok(Self {
            functions: functions.map(str::to_owned).collect(),
            bytes: row[bytes].as_u64().context("no bytes")?,
            verdict: row["verdict"]["verdict"].as_str().map(str::to_owned),
            evidence: row["verdict"]["evidence"].as_str().unwrap_or_default().to_owned(),
        })
    }

    fn is_of(&self, function: &str) -> bool {
        self.functions.iter().any(|name| name.contains(function))
    }
}

#[derive(Default)]
struct Judged {
    table: String,
    wrong: Vec<String>,
    caches_called_leaks: Vec<String>,
}

impl Judged {
    fn take(&mut self, service: Service, by: &str, sites: &[Site]) {
        let (right, said) = service.check(sites);
        let name = format!("{} {} by {by}", service.language, service.kind);
        let mark = if right { "right" } else { "WRONG" };
        _ = writeln!(self.table, "{mark} {name:32} {said}");
        if !right {
            self.wrong.push(name.clone());
            if said.starts_with("leak-like") && !service.is_leak() {
                self.caches_called_leaks.push(name);
            }
        }
    }
}

/// Runs services all at once, and has them judged after so many seconds.
fn judge(services: &[Service], seconds: u32) -> Result<Judged> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (of_record, of_leaks) = (folder.join("record"), folder.join("leaks"));
    [&of_record, &of_leaks].into_iter().try_for_each(fs::create_dir)?;
    let go = folder.join("go");
    let mut running = Vec::new();
    for (number, service) in services.iter().enumerate() {
        running.push(Running::spawn(service.command(&go)?, &format!("service-{number}"), folder)?);
    }
    let pids: Vec<u32> = running.iter().map(Running::pid).collect();
    let duration = format!("{seconds}s");
    let mut recorder = heaptrace::attach(&pids, &["-d", &format!("{}s", seconds + 5)], &of_record)?;
    let options = ["--older-than", "0s", "--top", "10000", "--interval", "1h", "-d", &duration];
    let live = Live::attach("leaks", &pids, &options, &of_leaks)?;
    File::create(&go)?;
    let prints = live.finish(0)?;
    heaptrace::finish(&mut recorder)?;
    for service in &mut running {
        ensure!(service.poll()?.is_none(), "{}", service.describe("ended"));
    }
    drop(running);

    let mut judged = Judged::default();
    let by_leaks = by_pid(list(prints.last().context("no print")?, "rows")?, "bytes")?;
    let file = heaptrace::record_file(&of_record);
    let file = file.to_str().context("no UTF-8")?;
    let report = heaptrace::output(&["report", file, "--view", "live", "--format", "json"])?;
    ensure!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
    let report: Value = serde_json::from_slice(&report.stdout)?;
    let by_report = by_pid(list(&report, "sites")?, "live_bytes")?;
    for (service, pid) in services.iter().zip(pids) {
        for (by, sites) in [("leaks", &by_leaks), ("report", &by_report)] {
            judged.take(*service, by, sites.get(&pid.into()).map_or(&[], Vec::as_slice));
        }
    }
    eprintln!("{}", judged.table);
    Ok(judged)
}

fn by_pid(rows: &[Value], bytes: &str) -> Result<BTreeMap<u64, Vec<Site>>> {
    let mut sites: BTreeMap<u64, Vec<Site>> = BTreeMap::new();
    for row in rows {
        sites.entry(row["pid"].as_u64().context("no pid")?).or_default().push(Site::new(row, bytes)?);
    }
    Ok(sites)
}

fn corpus() -> Result<()> {
    let Judged { table, wrong, caches_called_leaks } = judge(&CORPUS, 57)?;
    ensure!(caches_called_leaks.is_empty(), "called leaks: {caches_called_leaks:?}\n{table}");
    for by in ["leaks", "report"] {
        let wrong = wrong.iter().filter(|name| name.ends_with(by)).count();
        ensure!(wrong <= 1, "{wrong} are judged wrongly by {by}\n{table}");
    }
    Ok(())
}

/// The service that was asked about: what a person reads first is the leak, though the cache beside it is ten times as large.
fn first_in_text() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let go = folder.join("go");
    let service = Running::spawn(FEW[0].command(&go)?, "service", folder)?;
    let mut recorder = heaptrace::attach(&[service.pid()], &["-d", "30s"], folder)?;
    let leaks =
        heaptrace::command(&["leaks", "-p", &service.pid().to_string(), "-d", "26s", "--interval", "1h"])?;
    let mut leaks = Running::spawn(leaks, "leaks", folder)?;
    leaks.wait_for_line("heaptrace: tracing")?;
    File::create(&go)?;
    ensure!(leaks.wait()?.success(), "{}", leaks.describe("failed"));
    heaptrace::finish(&mut recorder)?;
    let text = leaks.stdout();
    let first = text.split("\n  2. ").next().unwrap_or_default();
    let first = first.split("  1. ").nth(1).with_context(|| format!("no first row\n{text}"))?;
    let lines: Vec<&str> = first.lines().map(str::trim).collect();
    ensure!(lines.get(1).is_some_and(|line| line.starts_with("LEAK-LIKE: ")), "{text}");
    ensure!(lines.get(3).is_some_and(|line| line.starts_with("open_session service.cpp:")), "{text}");
    ensure!(!text.contains("operator new"), "{text}");

    let file = heaptrace::record_file(folder);
    let output = heaptrace::output(&["report", file.to_str().context("no UTF-8")?])?;
    let text = String::from_utf8(output.stdout)?;
    let leaks = text.split("like leaks:\n").nth(1).or_else(|| text.split("like a leak:\n").nth(1));
    let mut lines = leaks.with_context(|| format!("no leaks in the report\n{text}"))?.lines();
    ensure!(lines.next().is_some_and(|line| line.starts_with("#   1. open_session service.cpp:")), "{text}");
    ensure!(lines.next().is_some_and(|line| line.starts_with("#      LEAK-LIKE: ")), "{text}");

    // In the view of its own it is the first row, and whoever asks to fail on it does.
    let options = ["--view", "leaks", "--fail-on", "leak-like"];
    let output =
        heaptrace::output(&[&["report", file.to_str().context("no UTF-8")?], &options[..]].concat())?;
    let [text, said] = [output.stdout, output.stderr].map(|of| String::from_utf8_lossy(&of).into_owned());
    ensure!(
        output.status.code() == Some(3) && said.contains("open_session service.cpp:"),
        "{}: {said}",
        output.status
    );
    let mut lines = text.lines().skip_while(|line| !line.starts_with("  1. ")).map(str::trim);
    ensure!(lines.next().is_some_and(|line| line.starts_with("1. LEAK-LIKE: ")), "{text}");
    ensure!(lines.nth(2).is_some_and(|line| line.starts_with("open_session service.cpp:")), "{text}");
    let hints = heaptrace::output(&["report", file.to_str().context("no UTF-8")?, "--hints"])?;
    let hints = String::from_utf8(hints.stdout)?;
    ensure!(hints.contains("#   look for what is not freed: open_session service.cpp:"), "{hints}");
    Ok(())
}

fn first_in_top() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let go = folder.join("go");
    let service = Running::spawn(FEW[0].command(&go)?, "service", folder)?;
    let pid = service.pid().to_string();
    let command = heaptrace::command(&["top", "-i", "100ms", "-p", &pid, "--trace", "--no-growth"])?;
    let mut top = Terminal::run(command, (130, 30))?;
    top.wait_for_text("tracing: 1 process")?;
    File::create(&go)?;
    top.wait_for("the site with most", |screen| {
        screen.lines().any(|line| line.trim_start().starts_with(&pid) && line.contains("sessions service"))
    })?;
    top.press("\r")?;
    top.wait_for("the leak first", |screen| {
        let mut lines = screen.lines().skip_while(|line| !line.contains("CALLED BY, most leak-like first"));
        lines.nth(1).is_some_and(|line| line.contains("LEAK-LIKE malloc open_session service.cpp:"))
    })?;
    // Back to the list, and out of it.
    top.press("qq")?;
    ensure!(top.wait()?.success(), "top failed");
    Ok(())
}
