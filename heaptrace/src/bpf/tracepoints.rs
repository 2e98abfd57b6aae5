//! Tracepoints: process life by raw tracepoints (no tracefs needed), memory growth by syscall tracepoints.

use super::error::{LoadError, setup_error};
use crate::printable::say;
use crate::process::{
    inherited::Unshared,
    system,
    tracefs::{ROOTS, Tracefs},
};
use aya::{
    Ebpf,
    programs::{Program, ProgramError, RawTracePoint, TracePoint},
};
use rustix::mount::{MountFlags, mount};
use std::os::fd::{AsFd as _, AsRawFd as _};

pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let missing = || LoadError::Object { what: format!("no program {name}") };
    ebpf.program_mut(name).ok_or_else(missing)?.try_into().map_err(|_| missing())
}

/// A tracepoint that is attached until this is dropped, which waits for a grace period of the kernel.
pub type Attached = Box<dyn Send>;

/// fork, exec and exit of every process; the programs look at targets only.
pub fn attach_lifecycle(ebpf: &mut Ebpf) -> Result<Vec<Attached>, LoadError> {
    let mut attached: Vec<Attached> = Vec::new();
    for name in ["task_newtask", "sched_process_exec", "sched_process_exit"] {
        let program: &mut RawTracePoint = program(ebpf, name)?;
        let fail = |source| setup_error(name, source);
        program.load().map_err(fail)?;
        let link = program.attach(name).map_err(fail)?;
        attached.push(Box::new(Unshared::new(program.take_link(link).map_err(fail)?)));
    }
    Ok(attached)
}

/// Whether the tracepoints of a kind are in place, and if not, why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placed {
    /// Not asked for.
    #[default]
    Off,
    On,
    Unavailable(String),
}

/// The programs of a growth call: the exit first, as an entry alone would wait for nothing. `told`: of each call, and of
/// madvise.
fn growth_programs(told: bool) -> impl Iterator<Item = String> {
    let calls = ["brk", "mmap", "munmap", "mremap"];
    calls
        .into_iter()
        .chain(told.then_some("madvise"))
        .flat_map(|call| [format!("sys_exit_{call}"), format!("sys_enter_{call}")])
}

/// Loads the programs of [`attach_growth`], while `ebpf` has all maps.
pub fn load_growth(ebpf: &mut Ebpf, told: bool) -> Result<(), LoadError> {
    for name in growth_programs(told) {
        let program: &mut TracePoint = program(ebpf, &name)?;
        program.load().map_err(|source| setup_error(&name, source))?;
    }
    Ok(())
}

/// brk, mmap, munmap and mremap. While they are attached, every system call of every process takes the
/// kernel's slow path (entry/common.c, `SYSCALL_WORK_SYSCALL_TRACEPOINT`).
pub fn attach_growth(ebpf: &mut Ebpf, told: bool) -> Result<(Placed, Vec<Attached>), LoadError> {
    let mut attached: Vec<Attached> = Vec::new();
    if let Err(why) = mount_tracefs() {
        return Ok((Placed::Unavailable(why), attached));
    }
    for name in growth_programs(told) {
        let program: &mut TracePoint = program(ebpf, &name)?;
        match program.attach("syscalls", &name) {
            Ok(link) => {
                let link = program.take_link(link).map_err(|source| setup_error(&name, source))?;
                attached.push(Box::new(Unshared::new(link)));
            }
            Err(error) => {
                let why = format!("tracepoint syscalls:{name}: {error}");
                return Ok((Placed::Unavailable(why), Vec::new()));
            }
        }
    }
    Ok((Placed::On, attached))
}

const FAULTS: &str = "page_fault_user";

/// Loads the program of [`attach_faults`], while `ebpf` has all maps.
pub fn load_faults(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    let program: &mut RawTracePoint = program(ebpf, FAULTS)?;
    program.load().map_err(|source| setup_error(FAULTS, source))
}

/// Page faults in user mode, of every process; the program looks at targets only.
pub fn attach_faults(ebpf: &mut Ebpf) -> Result<(Placed, Option<Attached>), LoadError> {
    let program: &mut RawTracePoint = program(ebpf, FAULTS)?;
    let link = match program.attach(FAULTS) {
        Ok(link) => link,
        Err(error) => return Ok((Placed::Unavailable(format!("tracepoint {FAULTS}: {error}")), None)),
    };
    let link = program.take_link(link).map_err(|source| setup_error(FAULTS, source))?;
    Ok((Placed::On, Some(Box::new(Unshared::new(link)))))
}

/// How often the kernel left programs of tracepoints out: it runs none while another one is under way on the same CPU
/// (`trace_call_bpf`, kernel/trace/bpf_trace.c), which on kernels that let them be preempted is another thread's.
pub fn left_out(ebpf: &Ebpf) -> u64 {
    let fds = ebpf.programs().filter_map(|(_, program)| match program {
        Program::TracePoint(program) => program.fd().ok(),
        Program::RawTracePoint(program) => program.fd().ok(),
        _ => None,
    });
    fds.filter_map(|fd| {
        let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        let text = system::read_text(path).ok()?;
        text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse::<u64>().ok()
    })
    .sum()
}

/// Tracepoints are found by number, and tracefs is where the numbers are.
fn mount_tracefs() -> Result<(), String> {
    let none = || "this kernel has no syscall tracepoints (CONFIG_FTRACE_SYSCALLS)".to_owned();
    match Tracefs::find() {
        Tracefs::Usable(_) => return Ok(()),
        Tracefs::WithoutSyscalls(_) => return Err(none()),
        Tracefs::Closed { root, source } => {
            return Err(format!(
                "tracefs on {} may not be read ({source}); run as root, or with CAP_DAC_READ_SEARCH",
                root.display()
            ));
        }
        Tracefs::NotMounted => {}
    }
    if let Err(error) = mount("tracefs", ROOTS[0], "tracefs", MountFlags::empty(), None) {
        return Err(format!(
            "tracefs is not mounted on {root}, and mounting it failed: {error}; as root: mount -t tracefs tracefs \
             {root}",
            root = ROOTS[0]
        ));
    }
    say(format_args!("mounted tracefs on {} (it was not mounted; the tracepoints need it)", ROOTS[0]));
    if matches!(Tracefs::find(), Tracefs::Usable(_)) { Ok(()) } else { Err(none()) }
}
