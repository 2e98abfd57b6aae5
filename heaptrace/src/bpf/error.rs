//! Why the kernel side could not be set up.

use crate::process::privileges::Privileges;
use aya::{EbpfError, programs::ProgramError};
use std::{error::Error, io};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the kernel refused ({source}): {advice}")]
    Permission { source: io::Error, advice: String },
    #[error("kernel {release} is too old: it has no cookies for probes; Linux 5.15 or later is needed")]
    TooOld { release: String },
    #[error(
        "heaptrace runs in a PID namespace of its own (a container's), and BPF programs see other PIDs than it \
         does; run it on the host, or in a container that shares the host's (docker run --pid=host)"
    )]
    PidNamespace,
    #[error("the kernel refused the BPF program {name}: {source}; its log ends in: {log}")]
    Program { name: String, source: io::Error, log: String },
    #[error("the BPF object could not be loaded: {source}")]
    Ebpf { source: Box<EbpfError> },
    #[error("the BPF program {name} could not be set up: {source}")]
    Setup { name: String, source: Box<ProgramError> },
    #[error("the BPF maps could not be mapped: {source}")]
    Maps { source: io::Error },
    #[error("the embedded BPF object is broken: {what}")]
    Object { what: String },
    #[error("{path}: {what}; a kernel with BTF (CONFIG_DEBUG_INFO_BTF) is needed")]
    KernelTypes { path: &'static str, what: String },
}

impl LoadError {
    fn permission(source: io::Error) -> Self {
        Self::Permission { source, advice: Privileges::read().advice() }
    }

    /// For a program that the kernel did not load. `EPERM` is about us: the verifier says `EACCES` or `EINVAL`.
    pub(super) fn program(name: &str, source: io::Error, log: String) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM) => Self::permission(source),
            _ => Self::Program { name: name.to_owned(), source, log },
        }
    }
}

/// For a program that aya could not set up.
pub(super) fn setup_error(name: &str, source: ProgramError) -> LoadError {
    match source {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string().lines().rev().take(20).collect::<Vec<_>>().join(" | ");
            LoadError::program(name, io_error, log)
        }
        source => LoadError::Setup { name: name.to_owned(), source: Box::new(source) },
    }
}

/// For an object that aya could not load.
pub(super) fn load_error(error: EbpfError) -> LoadError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        let io = at.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied) {
            return LoadError::permission(io::ErrorKind::PermissionDenied.into());
        }
        cause = at.source();
    }
    LoadError::Ebpf { source: Box::new(error) }
}
