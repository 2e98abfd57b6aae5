//! What is left of the throughput of programs, by mode of tracing.

use crate::{
    figures::{median, rounds, spread},
    memleak::{self, Memleak},
    recorder::{Recorder, own},
    target::{Frames, Target, compile},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// Each mode, and its options of `heaptrace record`; none for what is not traced.
const MODES: [(&str, Option<&[&str]>); 8] = [
    ("none", None),
    ("growth", Some(&["--trace", "growth"])),
    ("faults", Some(&["--trace", "faults"])),
    ("sampled within 5%", Some(&["--trace", "sampled", "--budget", "5%"])),
    ("sampled", Some(&["--trace", "sampled"])),
    ("sampled --frees", Some(&["--trace", "sampled", "--frees"])),
    ("allocs", Some(&["--trace", "allocs"])),
    ("exact", Some(&["--trace", "exact"])),
];

/// Past the calls in which functions are verified, and what is measured then: of a budget, a whole period.
const BEFORE: &str = "0.7";
const SECONDS: &str = "2";
const PERIOD: &str = "10";

/// Something that works for a time, and says how much it did in a second.
enum Load {
    Told { target: Target, threads: &'static str },
    Redis { server: Child, socket: PathBuf },
}

impl Load {
    fn script(name: &str) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/tracing/programs").join(name);
        Ok(Self::Told { target: Target::of(Command::new("python3").arg(script))?, threads: "" })
    }

    fn redis(folder: &Path) -> Result<Self> {
        let socket = folder.join("redis.sock");
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .context("failed to start redis-server")?;
        while !socket.exists() {
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Self::Redis { server, socket })
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Told { target, .. } => target.pid(),
            Self::Redis { server, .. } => server.id(),
        }
    }

    /// How much it does in a second, over so many.
    fn work(&mut self, seconds: &str) -> Result<f64> {
        match self {
            Self::Told { target, threads } => {
                target.ask(&format!("{seconds} {threads}"))?.parse().context("no number")
            }
            Self::Redis { socket, .. } => {
                // It takes a number of requests: some for a second.
                let requests = (60_000.0 * seconds.parse::<f64>()?) as u64;
                let requests = requests.to_string();
                let output = Command::new("redis-benchmark")
                    .args(["-t", "set", "-r", "100000", "-d", "100", "--csv", "-n", &requests, "-s"])
                    .arg(&*socket)
                    .output()
                    .context("failed to run redis-benchmark")?;
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let line =
                    said.lines().find(|line| line.starts_with("\"SET\"")).context("no figure of SET")?;
                let figure = line.split(',').nth(1).context("no second field")?;
                figure.trim_matches('"').parse().context("no number")
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Self::Redis { server, .. } = self {
            // It keeps nothing; there is nothing to do about an error.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

pub fn run(folder: &Path) -> Result<()> {
    let busy = compile("busy", Frames::Pointers, folder)?;
    let loads: [(&str, Load); 5] = [
        ("malloc and free, 1 thread", Load::Told { target: Target::start(&busy)?, threads: "1" }),
        ("malloc and free, 8 threads", Load::Told { target: Target::start(&busy)?, threads: "8" }),
        ("python3, json", Load::script("json_loads.py")?),
        ("sqlite3, insert", Load::script("sqlite_insert.py")?),
        ("redis, SET", Load::redis(folder)?),
    ];
    println!("\nThroughput that is left, in percent of what it is untraced\n");
    println!("| | {} | memleak |", MODES.map(|(name, _)| name).join(" | "));
    println!("|---|{}", "---|".repeat(MODES.len() + 1));
    for (name, mut load) in loads {
        let (kept, by_memleak) = measure(&mut load, folder).with_context(|| name.to_owned())?;
        let cells: Vec<String> = kept.iter().map(|kept| spread(kept)).collect();
        let by_memleak = by_memleak.map_or_else(|| "-".to_owned(), |kept| format!("{kept:.1}"));
        println!("| {name} | {} | {by_memleak} |", cells.join(" | "));
    }
    Ok(())
}

/// Of each mode, in each round; and what memleak leaves, if there is one.
fn measure(load: &mut Load, folder: &Path) -> Result<([Vec<f64>; MODES.len()], Option<f64>)> {
    let file = folder.join("ladder.data");
    let mut kept = [const { Vec::new() }; MODES.len()];
    let mut untraced = Vec::new();
    for _ in 0..rounds()? {
        let bare = load.work(SECONDS)?;
        ensure!(bare > 0.0, "nothing was done");
        untraced.push(bare);
        for (of, (mode, options)) in kept.iter_mut().zip(MODES) {
            let Some(options) = options else {
                // Against itself: how much a machine's figures differ.
                of.push(100.0 * load.work(SECONDS)? / bare);
                continue;
            };
            let recorder = Recorder::start(own(), load.pid(), options, &file)?;
            load.work(BEFORE)?;
            let seconds = if mode.contains("within") { PERIOD } else { SECONDS };
            let done = load.work(seconds)?;
            recorder.stop()?;
            of.push(100.0 * done / bare);
            eprintln!("{mode}: {:.1} %", 100.0 * done / bare);
        }
    }
    let by_memleak = match (memleak::command(), load) {
        (Some(words), load @ Load::Told { .. }) => {
            let bare = median(&untraced);
            let _memleak = Memleak::of(&words, load.pid())?;
            thread::sleep(Duration::from_secs(6));
            Some(100.0 * load.work(SECONDS)? / bare)
        }
        _ => None,
    };
    Ok((kept, by_memleak))
}
