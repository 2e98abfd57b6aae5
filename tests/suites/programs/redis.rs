//! redis: a server over jemalloc that counts its own memory.

use crate::sanity;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::installed,
    running::{PATIENCE, Running, wait_while_running},
    session::Start,
};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};
use tempfile::TempDir;

const KEYS: usize = 4000;
const VALUE: usize = 3001;

pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends one command; a line of simple reply, or the bulk text behind it.
    pub fn call(&mut self, words: &[&str]) -> Result<String> {
        let mut command = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| command.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.0.get_mut().write_all(command.as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.trim_end();
        let Some(length) = line.strip_prefix('$') else { return Ok(line.to_owned()) };
        let mut bulk = vec![0; length.parse::<usize>()? + 2];
        self.0.read_exact(&mut bulk)?;
        Ok(String::from_utf8_lossy(&bulk).trim_end().to_owned())
    }

    pub fn used_memory(&mut self) -> Result<u64> {
        let info = self.call(&["INFO", "memory"])?;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        line.context("redis says nothing of its memory")?.trim().parse().context("not a number")
    }
}

/// A server in `folder` that answers, and a client of it.
pub fn serving(folder: &Path) -> Result<(Running, Client)> {
    let port = sanity::free_port()?;
    let mut command = Command::new(installed("redis-server", &["/usr/bin"])?);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(folder);
    let mut redis = Running::spawn(command, "redis", folder)?;
    let answers = || Client::connect(port).is_ok_and(|mut client| client.call(&["PING"]).is_ok());
    wait_while_running(&mut redis, "answer", answers)?;
    Ok((redis, Client::connect(port)?))
}

/// Stores as many keys as make some megabytes.
pub fn fill(client: &mut Client) -> Result<()> {
    let value = "v".repeat(VALUE);
    for i in 0..KEYS {
        let reply = client.call(&["SET", &format!("key:{i}"), &value])?;
        ensure!(reply == "+OK", "redis answers {reply}");
    }
    Ok(())
}

pub fn filling_the_keyspace() -> Result<()> {
    let folder = TempDir::new()?;
    let (mut redis, mut client) = serving(folder.path())?;
    let before = client.used_memory()?;

    let mut recorder = heaptrace::attach(&[redis.pid()], &[], folder.path())?;
    fill(&mut client)?;
    let grown = client.used_memory()? - before;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;

    ensure!(client.call(&["GET", "key:1"])? == "v".repeat(VALUE), "redis lost a key");
    ensure!(client.call(&["DBSIZE"])? == format!(":{KEYS}"), "redis lost keys");
    redis.signal(libc::SIGTERM)?;
    let status = redis.wait()?;
    ensure!(status.success(), "{}", redis.describe(&format!("ended with {status}")));

    let report = heaptrace::report(folder.path())?;
    sanity::check(&report, &sanity::Resident::new(), Start::Attach)?;
    let live = report.process(redis.pid()).context("redis is not in the report")?.live_bytes;
    // Its figure is of usable sizes: size classes of jemalloc are at most 25 % above the request.
    let payload = (KEYS * VALUE) as u64;
    ensure!((payload..=grown / 10 * 11).contains(&live), "{live} bytes live; redis grew by {grown}");
    Ok(())
}
