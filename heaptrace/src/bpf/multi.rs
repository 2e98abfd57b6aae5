//! Uprobe programs for multi links (kernel 6.6): loaded here, beside aya, which owns the maps.
//!
//! aya 0.14 can neither load a program with `BPF_TRACE_UPROBE_MULTI` nor make such a link, and perf-event
//! uprobes take 110 ms each to let go (see `docs/performance.md`).

use super::{
    LoadError,
    syscall::{BPF_BTF_LOAD, BPF_LINK_CREATE, BPF_PROG_LOAD, bpf_fd},
};
use aya::{Ebpf, maps::Map};
use std::{
    collections::HashSet,
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// include/uapi/linux/bpf.h
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;

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

/// The entry and the return program, loaded for multi links.
pub struct MultiPrograms {
    enter: OwnedFd,
    leave: OwnedFd,
}

impl MultiPrograms {
    /// Loads both from the object that `ebpf` was loaded from, onto its maps.
    ///
    /// `Ok(None)` if the kernel does not know multi links.
    pub fn load(object: &[u8], ebpf: &Ebpf) -> Result<Option<Self>, LoadError> {
        let broken = |what: String| LoadError::Object { what };
        let mut object = aya_obj::Object::parse(object).map_err(|error| broken(error.to_string()))?;
        let features = aya::features();
        let btf = load_btf(&mut object, features)?;
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let mut maps: Vec<(String, RawFd, aya_obj::Map)> = Vec::new();
        for (name, map) in ebpf.maps() {
            let (Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data)) = map
            else {
                return Err(broken(format!("map {name} is of a kind that is not expected")));
            };
            if let Some(definition) = object.maps.get(name) {
                maps.push((name.to_owned(), data.fd().as_fd().as_raw_fd(), definition.clone()));
            }
        }
        object
            .relocate_maps(maps.iter().map(|(name, fd, map)| (name.as_str(), *fd, map)), &text)
            .map_err(|error| broken(error.to_string()))?;
        object.relocate_calls(&text).map_err(|error| broken(error.to_string()))?;
        object.sanitize_functions(features);
        let Some(enter) = load_program(&object, "call_enter", &btf)? else { return Ok(None) };
        let Some(leave) = load_program(&object, "call_return", &btf)? else { return Ok(None) };
        Ok(Some(Self { enter, leave }))
    }

    /// One link for all `sites` of the file at `path`: `(file offset, cookie)`. `pid` limits it to one process.
    pub fn attach(
        &self,
        path: &Path,
        sites: &[(u64, u64)],
        pid: Option<u32>,
        returns: bool,
    ) -> io::Result<OwnedFd> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let offsets: Vec<u64> = sites.iter().map(|(offset, _)| *offset).collect();
        let cookies: Vec<u64> = sites.iter().map(|(_, cookie)| *cookie).collect();
        let program = if returns { &self.leave } else { &self.enter };
        let mut attr = LinkAttr {
            prog_fd: program.as_raw_fd() as u32,
            attach_type: BPF_TRACE_UPROBE_MULTI,
            path: path.as_ptr() as u64,
            offsets: offsets.as_ptr() as u64,
            cookies: cookies.as_ptr() as u64,
            cnt: offsets.len() as u32,
            multi_flags: if returns { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
            pid: pid.unwrap_or(0),
            ..LinkAttr::default()
        };
        // SAFETY: the arrays have `cnt` elements and the path ends in NUL; all outlive the call.
        unsafe { bpf_fd(BPF_LINK_CREATE, &mut attr) }
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

/// `Ok(None)` if the kernel does not know the attach type.
fn load_program(object: &aya_obj::Object, name: &str, btf: &OwnedFd) -> Result<Option<OwnedFd>, LoadError> {
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
        expected_attach_type: BPF_TRACE_UPROBE_MULTI,
        ..ProgramAttr::default()
    };
    for (to, from) in attr.prog_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    // SAFETY: instructions, licence and what describes them outlive the call.
    match unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) } {
        Ok(fd) => return Ok(Some(fd)),
        // The attach type is checked before the program is.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !knows_attach_type() => return Ok(None),
        Err(_) => {}
    }
    let mut log = vec![0u8; 1 << 22];
    attr.log_level = 1;
    attr.log_buf = log.as_mut_ptr() as u64;
    attr.log_size = log.len() as u32;
    // SAFETY: as above; the log has `log_size` bytes.
    match unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) } {
        Ok(fd) => Ok(Some(fd)),
        Err(source) => Err(LoadError::Program { name: name.to_owned(), source, log: last_lines(&log) }),
    }
}

fn last_lines(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let lines = log.trim_end_matches('\0').lines().rev().take(20).collect::<Vec<_>>();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Whether a program that does nothing loads with the multi attach type.
fn knows_attach_type() -> bool {
    // r0 = 0; exit
    let instructions: [u64; 2] = [0xb7, 0x95];
    let mut attr = ProgramAttr {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: 2,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        expected_attach_type: BPF_TRACE_UPROBE_MULTI,
        ..ProgramAttr::default()
    };
    // SAFETY: instructions and licence outlive the call.
    unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) }.is_ok()
}
