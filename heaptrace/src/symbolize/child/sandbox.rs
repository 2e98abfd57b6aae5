//! What the child gives up before it looks into a file. What the kernel need not grant (namespaces) is tried; the rest
//! must succeed, or no file is looked into.

use super::{super::wire::Limits, seccomp};
use caps::CapSet;
use rustix::{
    process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
    thread::{CapabilitiesSecureBits, UnshareFlags, set_capabilities_secure_bits, set_name, unshare_unsafe},
};
use std::io;

/// Gives up all that is not needed to read open files.
///
/// # Errors
/// What could not be given up, in words.
pub fn enter(limits: Limits) -> Result<(), String> {
    let said = |what: &'static str| move |error| format!("{what}: {error}");
    // It was started as /proc/self/exe; a name helps whoever looks for what is busy.
    let _ = set_name(c"heaptrace-names");
    close_others().map_err(|error| format!("close_range: {error}"))?;
    leave_namespaces();
    // Not before, as new credentials end it. If the parent is gone already, its end of the socket is closed, and that
    // ends us as well.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(said("PR_SET_PDEATHSIG"))?;
    limit(limits).map_err(said("setrlimit"))?;
    drop_capabilities().map_err(|error| format!("capabilities: {error}"))?;
    seccomp::install()
}

/// Whoever started heaptrace may have left it descriptors that the child has no business with.
fn close_others() -> io::Result<()> {
    // SAFETY: no descriptor past standard error is anybody's here: the child has nothing open but its socket.
    match unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// seccomp already forbids what these separate us from, so it is no loss where they are refused.
fn leave_namespaces() {
    let own = UnshareFlags::NEWNET
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWPID;
    // SAFETY: the descriptor table, which is what others would have to rely on, stays shared.
    unsafe {
        // Without CAP_SYS_ADMIN it takes a user namespace as well.
        if unshare_unsafe(own).is_err() {
            let _ = unshare_unsafe(own | UnshareFlags::NEWUSER);
        }
    }
}

/// Memory is bounded by RLIMIT_DATA, which since Linux 4.7 is all private writable memory, however it was mapped, and
/// not by RLIMIT_AS, in which the mapped files are: those are large, and cost nothing that the kernel could not take back.
fn limit(limits: Limits) -> rustix::io::Result<()> {
    let none = [Resource::Core, Resource::Fsize, Resource::Nproc, Resource::Memlock, Resource::Msgqueue];
    let bounds = [(Resource::Data, limits.memory), (Resource::Cpu, limits.cpu)];
    for (resource, bound) in none.map(|resource| (resource, 0)).into_iter().chain(bounds) {
        // What is less already stays so: only root could raise it.
        let bound = getrlimit(resource).maximum.map_or(bound, |most| most.min(bound));
        setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) })?;
    }
    Ok(())
}

/// Of this thread, which is the only one.
fn drop_capabilities() -> Result<(), Box<dyn std::error::Error>> {
    // Both need CAP_SETPCAP, without which there is nothing that root would regain at an exec.
    if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
        set_capabilities_secure_bits(
            CapabilitiesSecureBits::NO_ROOT
                | CapabilitiesSecureBits::NO_ROOT_LOCKED
                | CapabilitiesSecureBits::NO_SETUID_FIXUP
                | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
                | CapabilitiesSecureBits::KEEP_CAPS_LOCKED,
        )?;
    }
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Inheritable, CapSet::Permitted] {
        caps::clear(None, set)?;
    }
    Ok(())
}
