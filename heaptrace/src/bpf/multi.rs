//! Uprobe programs for multi links (kernel 6.6): loaded here, beside aya, which owns the maps.
//!
//! aya 0.14 can neither load a program with `BPF_TRACE_UPROBE_MULTI` nor make such a link, and perf-event
//! uprobes take 110 ms each to let go (see `docs/performance.md`).

use super::{
    error::LoadError,
    site::{CHECK, HIT, OWN, PlacedSite},
    syscall::{BPF_BTF_LOAD, BPF_LINK_CREATE, BPF_PROG_LOAD, bpf_fd, bpf_fd_apart},
};
use crate::process::{apart::ClosedApart, inherited::Unshared};
use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use std::{
    collections::HashSet,
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// include/uapi/linux/bpf.h
const BPF_PROG_TYPE_KPROBE: u32 = 2;
pub(super) const BPF_TRACE_UPROBE_MULTI: u32 = 48;

/// The start of `union bpf_attr`'s part for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct ProgramAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// `union bpf_attr`'s part for `BPF_BTF_LOAD`.
#[repr(C)]
#[derive(Default)]
struct BtfAttr {
    btf: u64,
    btf_log_buf: u64,
    btf_size: u32,
    btf_log_size: u32,
    btf_log_level: u32,
    _pad: u32,
}

/// `union bpf_attr`'s part for `BPF_LINK_CREATE` with `uprobe_multi`.
#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    cnt: u32,
    multi_flags: u32,
    pid: u32,
    _pad: u32,
}

/// Probes in place; dropping it takes them away.
pub type MultiLink = Unshared<ClosedApart>;

/// A program that probes run, loaded for multi links.
pub struct MultiProgram(OwnedFd);

impl MultiProgram {
    /// Instructions of a uprobe program.
    ///
    /// # Errors
    /// As bpf(2).
    pub(super) fn from_instructions(instructions: &[u64]) -> io::Result<Self> {
        try_program(instructions, BPF_TRACE_UPROBE_MULTI).map(Self)
    }

    /// A program that does nothing: what a hit costs before anything is accounted.
    ///
    /// # Errors
    /// As bpf(2): `EINVAL` if the kernel does not know multi links.
    pub fn empty() -> io::Result<Self> {
        empty_for_links(BPF_TRACE_UPROBE_MULTI).map(Self)
    }

    /// A link for all `sites` of the file at `path`. `pid` limits it to one process.
    pub fn attach(&self, path: &Path, sites: &[PlacedSite], pid: Option<u32>) -> io::Result<MultiLink> {
        let link = link(&self.0, BPF_TRACE_UPROBE_MULTI, path, sites, pid)?;
        Ok(Unshared::new(ClosedApart::new(link)))
    }
}

impl AsFd for MultiProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<MultiProgram> for OwnedFd {
    fn from(program: MultiProgram) -> Self {
        program.0
    }
}

/// Whether the kernel makes such links.
pub fn has_links() -> bool {
    empty_for_links(BPF_TRACE_UPROBE_MULTI).is_ok()
}

/// The object, relocated against `ebpf`'s maps, which are to stay until the programs are loaded. It is for programs of one
/// attach type: a program array takes no other beside it (`__bpf_prog_map_compatible`, kernel/bpf/core.c; seen on 6.18), so
/// it has arrays of its own.
pub struct Relocated {
    object: aya_obj::Object,
    btf: OwnedFd,
    /// Kept until the programs hold them.
    _arrays: Vec<MapData>,
}

impl Relocated {
    pub fn new(object: &[u8], ebpf: &Ebpf) -> Result<Self, LoadError> {
        let broken = |what: String| LoadError::Object { what };
        let mut object = aya_obj::Object::parse(object).map_err(|error| broken(error.to_string()))?;
        let features = aya::features();
        let btf = load_btf(&mut object, features)?;
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let mut maps: Vec<(String, RawFd, aya_obj::Map)> = Vec::new();
        let mut arrays: Vec<MapData> = Vec::new();
        for (name, map) in ebpf.maps() {
            let Some(definition) = object.maps.get(name).cloned() else { continue };
            let fd = match map {
                Map::Array(data)
                | Map::HashMap(data)
                | Map::PerCpuArray(data)
                | Map::RingBuf(data)
                | Map::ArrayOfMaps(data) => data.fd().as_fd().as_raw_fd(),
                Map::ProgramArray(_) => {
                    let array = MapData::create(definition.clone(), name, None)
                        .map_err(|error| LoadError::Maps { source: io::Error::other(error) })?;
                    let fd = array.fd().as_fd().as_raw_fd();
                    arrays.push(array);
                    fd
                }
                _ => return Err(broken(format!("map {name} is of a kind that is not expected"))),
            };
            maps.push((name.to_owned(), fd, definition));
        }
        object
            .relocate_maps(maps.iter().map(|(name, fd, map)| (name.as_str(), *fd, map)), &text)
            .map_err(|error| broken(error.to_string()))?;
        object.relocate_calls(&text).map_err(|error| broken(error.to_string()))?;
        object.sanitize_functions(features);
        Ok(Self { object, btf, _arrays: arrays })
    }

    /// The program that counts, the one that verifies, and, with `own`, that of probes that programs offer.
    pub fn load(&self, own: bool) -> Result<([MultiProgram; 2], Option<MultiProgram>), LoadError> {
        let load =
            |name| load_program(&self.object, name, BPF_TRACE_UPROBE_MULTI, &self.btf).map(MultiProgram);
        let own = if own { Some(load(OWN)?) } else { None };
        Ok(([load(HIT)?, load(CHECK)?], own))
    }
}

/// Hands the object's types to the kernel: functions that are verified by themselves need them (`btf_prepare_func_args`,
/// kernel/bpf/btf.c).
fn load_btf(object: &mut aya_obj::Object, features: &aya_obj::Features) -> Result<OwnedFd, LoadError> {
    let broken = |what: String| LoadError::Object { what };
    let features = features.btf().ok_or_else(|| broken("the kernel takes no BTF".to_owned()))?;
    let types = object.fixup_and_sanitize_btf(features).map_err(|error| broken(error.to_string()))?;
    let types = types.ok_or_else(|| broken("it has no BTF".to_owned()))?.to_bytes();
    let mut attr = BtfAttr { btf: types.as_ptr() as u64, btf_size: types.len() as u32, ..BtfAttr::default() };
    // SAFETY: the types outlive the call.
    if let Ok(fd) = unsafe { bpf_fd(BPF_BTF_LOAD, &mut attr) } {
        return Ok(fd);
    }
    let mut log = vec![0u8; 1 << 20];
    attr.btf_log_level = 1;
    attr.btf_log_buf = log.as_mut_ptr() as u64;
    attr.btf_log_size = log.len() as u32;
    // SAFETY: as above; the log has `btf_log_size` bytes.
    unsafe { bpf_fd(BPF_BTF_LOAD, &mut attr) }.map_err(|source| LoadError::Program {
        name: "(types)".to_owned(),
        source,
        log: last_lines(&log),
    })
}

fn link(
    program: &OwnedFd,
    attach_type: u32,
    path: &Path,
    sites: &[PlacedSite],
    pid: Option<u32>,
) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let offsets: Vec<u64> = sites.iter().map(|site| site.offset).collect();
    let cookies: Vec<u64> = sites.iter().map(|site| site.cookie.to_bits()).collect();
    let semaphores: Vec<u64> = sites.iter().map(|site| site.semaphore).collect();
    let is_any_counted = semaphores.iter().any(|semaphore| *semaphore != 0);
    let mut attr = LinkAttr {
        prog_fd: program.as_raw_fd() as u32,
        attach_type,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        ref_ctr_offsets: if is_any_counted { semaphores.as_ptr() as u64 } else { 0 },
        cookies: cookies.as_ptr() as u64,
        cnt: offsets.len() as u32,
        pid: pid.unwrap_or(0),
        ..LinkAttr::default()
    };
    // SAFETY: the arrays have `cnt` elements and the path ends in NUL; all outlive the call.
    unsafe { bpf_fd_apart(BPF_LINK_CREATE, &mut attr) }
}

fn load_program(
    object: &aya_obj::Object,
    name: &str,
    attach_type: u32,
    btf: &OwnedFd,
) -> Result<OwnedFd, LoadError> {
    let broken = || LoadError::Object { what: format!("no program {name}") };
    let program = object.programs.get(name).ok_or_else(broken)?;
    let function = object.functions.get(&program.function_key()).ok_or_else(broken)?;
    let (functions, lines) = (function.func_info.func_info_bytes(), function.line_info.line_info_bytes());
    let mut attr = ProgramAttr {
        prog_btf_fd: btf.as_raw_fd() as u32,
        func_info_rec_size: function.func_info_rec_size as u32,
        func_info: functions.as_ptr() as u64,
        func_info_cnt: function.func_info.len() as u32,
        line_info_rec_size: function.line_info_rec_size as u32,
        line_info: lines.as_ptr() as u64,
        line_info_cnt: function.line_info.len() as u32,
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: function.instructions.len() as u32,
        insns: function.instructions.as_ptr() as u64,
        license: program.license.as_ptr() as u64,
        expected_attach_type: attach_type,
        ..ProgramAttr::default()
    };
    for (to, from) in attr.prog_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    // SAFETY: instructions, licence and what describes them outlive the call.
    if let Ok(fd) = unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) } {
        return Ok(fd);
    }
    let mut log = vec![0u8; 1 << 22];
    attr.log_level = 1;
    attr.log_buf = log.as_mut_ptr() as u64;
    attr.log_size = log.len() as u32;
    // SAFETY: as above; the log has `log_size` bytes.
    match unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) } {
        Ok(fd) => Ok(fd),
        Err(source) => Err(LoadError::program(name, source, last_lines(&log))),
    }
}

fn last_lines(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let lines = log.trim_end_matches('\0').lines().rev().take(20).collect::<Vec<_>>();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// r0 = 0; exit
const EMPTY: &[u64] = &[0xb7, 0x95];

/// A program that does nothing, where the kernel makes links of this attach type. A kernel that does not know the
/// type may load the program all the same: 6.1 does.
pub(super) fn empty_for_links(attach_type: u32) -> io::Result<OwnedFd> {
    let program = try_program(EMPTY, attach_type)?;
    let site = PlacedSite { offset: 0, ..PlacedSite::default() };
    // The type is looked at before the path, and a folder cannot be probed (`bpf_uprobe_multi_link_attach`,
    // kernel/trace/bpf_trace.c).
    match link(&program, attach_type, Path::new("/"), &[site], None) {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(program),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// A program that does nothing, for perf events.
pub(super) fn empty_program() -> io::Result<OwnedFd> {
    try_program(EMPTY, 0)
}

/// Loads a uprobe program of `instructions`, to see whether the kernel takes it.
pub(super) fn try_program(instructions: &[u64], expected_attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = ProgramAttr {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        expected_attach_type,
        ..ProgramAttr::default()
    };
    // SAFETY: instructions and licence outlive the call.
    unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) }
}
