//! PostgreSQL: a server that forks a process for each connection.

use crate::sanity;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    postgres::{CLIENTS, Cluster, no_crash},
    running::Running,
    session::Start,
};
use std::fs;

pub fn attached_under_load() -> Result<()> {
    let cluster = Cluster::new()?;
    let mut server = cluster.serving()?;
    let postmaster = server.pid();
    let mut recorder = heaptrace::attach(&[postmaster], &[], cluster.path())?;
    cluster.load()?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;

    cluster.serves().context("after heaptrace has left")?;
    // Fast shutdown.
    server.signal(libc::SIGINT)?;
    let status = server.wait()?;
    ensure!(status.success(), "{}", server.describe(&format!("ended with {status}")));
    no_crash(&server.stderr())?;

    let report = heaptrace::report(cluster.path())?;
    sanity::check(&report, &sanity::Resident::new(), Start::Attach)?;
    let backends = sanity::allocating_children(&report, postmaster)?;
    ensure!(backends >= CLIENTS as usize, "{backends} backends in the report of {CLIENTS} clients");
    Ok(())
}

pub fn from_the_start() -> Result<()> {
    let cluster = Cluster::new()?;
    let mut command = heaptrace::command(&["record", "-o"])?;
    command.arg(heaptrace::record_file(cluster.path())).args(heaptrace::COMMAND).args(cluster.server()?);
    command.current_dir(cluster.path());
    let mut recorder = Running::spawn(command, "heaptrace", cluster.path())?;
    cluster.wait_until_serving(&mut recorder)?;
    cluster.prepare()?;
    cluster.load()?;
    cluster.serves()?;
    let pid_file = fs::read_to_string(cluster.data().join("postmaster.pid"))?;
    let postmaster: u32 = pid_file.lines().next().context("the PID file is empty")?.parse()?;
    let resident = sanity::resident(&[postmaster])?;
    // SAFETY: the server was started by this test's recorder, and lives until this signal ends it.
    ensure!(unsafe { libc::kill(postmaster as libc::pid_t, libc::SIGINT) } == 0, "the server is gone");
    heaptrace::finish(&mut recorder)?;
    no_crash(&recorder.stderr())?;

    let report = heaptrace::report(cluster.path())?;
    sanity::check(&report, &resident, Start::Command)?;
    let backends = sanity::allocating_children(&report, postmaster)?;
    ensure!(backends >= CLIENTS as usize, "{backends} backends in the report of {CLIENTS} clients");
    let process = report.process(postmaster).context("the server is not in the report")?;
    ensure!(process.alloc_count > 100, "the server was not seen from its start: {process:?}");
    Ok(())
}
