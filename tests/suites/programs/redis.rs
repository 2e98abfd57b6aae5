//! redis: a server over jemalloc that counts its own memory.

use crate::sanity;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::installed,
    redis::Client,
    running::{PATIENCE, Running, wait_while_running},
    session::Start,
};
use std::{net::TcpStream, path::Path, process::Command};
use tempfile::TempDir;

const KEYS: usize = 4000;
const VALUE: usize = 3001;

fn connect(port: u16) -> Result<Client<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(Client::over(stream))
}

/// A server in `folder` that answers, and a client of it.
pub fn serving(folder: &Path) -> Result<(Running, Client<TcpStream>)> {
    let port = sanity::free_port()?;
    let mut command = Command::new(installed("redis-server", &["/usr/bin"])?);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(folder);
    let mut redis = Running::spawn(command, "redis", folder)?;
    let answers = || connect(port).is_ok_and(|mut client| client.call(&["PING"]).is_ok());
    wait_while_running(&mut redis, "answer", answers)?;
    Ok((redis, connect(port)?))
}

/// Stores as many keys as make some megabytes.
pub fn fill(client: &mut Client<TcpStream>) -> Result<()> {
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
    let before = client.memory("used_memory")?;

    let mut recorder = heaptrace::attach(&[redis.pid()], &[], folder.path())?;
    fill(&mut client)?;
    let grown = client.memory("used_memory")? - before;
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
