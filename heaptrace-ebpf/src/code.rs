//! Which file's code a process maps: known here, its unwind table is in force before the first call in it.
//! Userspace says which files have tables (`CODE_FILES`), and has the last word.

use heaptrace_common::{
    settings::growth_calls,
    unwind::{CodeFile, CodeFileKey, NO_TABLE, TablePlace, UnwindMapping},
};

use crate::{
    helpers::{read_kernel, task, user_registers},
    maps::{CODE_FILES, setting},
    unwind::new,
    value::{Lookup, Plain, at, plain},
};

plain!(CodeFile, TablePlace);

/// include/uapi/linux/auxvec.h
const AT_BASE: u64 = 7;
const AT_NULL: u64 = 0;

/// Pairs of the auxiliary vector that are looked at. AT_BASE is among the first ten (`create_elf_tables`,
/// fs/binfmt_elf.c).
const AUXV_PAIRS: u64 = 16;

/// What a system call is about to map: a file and what its pages are, if it is a known one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Mapped {
    pub file: CodeFileKey,
    /// Address minus ELF virtual address of the file's code, without the mapping's address.
    pub bias: u64,
}

impl Mapped {
    pub const NOTHING: Self = Self { file: CodeFileKey { dev: 0, inode: 0 }, bias: 0 };
}

/// What is in the kernel's memory `offset` bytes from `at`. Any address may be asked for.
#[inline(always)]
fn read<T: Plain>(at: u64, offset: u32) -> Option<T> {
    read_kernel(at.wrapping_add(u64::from(offset)))
}

/// Whether the table of `known` is of the file with `inode`, a `struct inode`, as it is now.
#[inline(always)]
fn is_unchanged(known: &CodeFile, inode: u64) -> Option<bool> {
    Some(
        read::<u64>(inode, setting!(code.inode_size))? == known.size
            && read::<u64>(inode, setting!(code.inode_modified_s))? == known.modified_s
            && u64::from(read::<u32>(inode, setting!(code.inode_modified_ns))?) == known.modified_ns,
    )
}

/// The file behind `file`, a `struct file`, and its table if there is one.
#[inline(always)]
fn known(file: u64) -> Option<(CodeFileKey, CodeFile)> {
    let inode: u64 = read(file, setting!(code.file_inode))?;
    let super_block: u64 = read(inode, setting!(code.inode_super_block))?;
    let dev = u64::from(read::<u32>(super_block, setting!(code.super_block_dev))?);
    let key = CodeFileKey { dev, inode: read(inode, setting!(code.inode_number))? };
    let known = CODE_FILES.value(key)?.get();
    is_unchanged(&known, inode)?.then_some((key, known))
}

/// The current process is about to map `fd` executable from `offset` on.
#[inline(always)]
pub fn mapping(fd: u64, offset: u64) -> Mapped {
    if setting!(has_code_files) == 0 {
        return Mapped::NOTHING;
    }
    match opened(fd as u32).and_then(known) {
        Some((file, known)) => Mapped { file, bias: 0u64.wrapping_sub(offset.wrapping_add(known.delta)) },
        None => Mapped::NOTHING,
    }
}

/// The `struct file` of a descriptor of the current process.
#[inline(always)]
fn opened(fd: u32) -> Option<u64> {
    let task = task();
    let files: u64 = read(task, setting!(code.task_files))?;
    let table: u64 = read(files, setting!(code.files_fdt))?;
    if fd >= read::<u32>(table, setting!(code.fdtable_max_fds))? {
        return None;
    }
    let array: u64 = read(table, setting!(code.fdtable_fd))?;
    read::<u64>(array.wrapping_add(u64::from(fd) * 8), 0).filter(|file| *file != 0)
}

/// The current process, of record `process`, has mapped `length` bytes at `start` executable.
#[inline(always)]
pub fn mapped(process: u32, what: Mapped, start: u64, length: u64) {
    if setting!(has_code_files) == 0 {
        return;
    }
    let end = start.wrapping_add(length);
    let unknown = UnwindMapping { start, end, bias: 0, first_page: 0, pages_at: NO_TABLE };
    // One without a table counts too: what was there before is gone.
    let mapping = match CODE_FILES.value(what.file) {
        Some(known) if what.file.inode != 0 => {
            at!(known.table).get().mapping(start, end, start.wrapping_add(what.bias))
        }
        _ => unknown,
    };
    new::add(process, mapping);
}

/// The current process, now of record `process`, has replaced its image: its program and dynamic linker are mapped.
#[inline(always)]
pub fn execed(process: u32) {
    if setting!(has_code_files) != 0 {
        image(process);
    }
}

/// All that the current process maps, as /proc/PID/status's VmSize; 0 if that is not asked for, or not known.
#[inline(always)]
pub fn mapped_bytes() -> u64 {
    if setting!(growth_calls) != growth_calls::SHOWN || setting!(code.mm_total_vm) == 0 {
        return 0;
    }
    let memory: Option<u64> = read(task(), setting!(code.task_mm));
    let pages: Option<u64> = memory.and_then(|memory| read(memory, setting!(code.mm_total_vm)));
    pages.unwrap_or(0).wrapping_mul(u64::from(setting!(page_size)))
}

#[inline(always)]
fn image(process: u32) -> Option<()> {
    let memory: u64 = read(task(), setting!(code.task_mm))?;
    let (_, program) = known(read(memory, setting!(code.mm_exe_file))?)?;
    let code: u64 = read(memory, setting!(code.mm_start_code))?;
    add_whole(process, &program, code.wrapping_sub(program.code_start));
    let linker = CODE_FILES.value(program.interpreter)?.get();
    let base = uw_interpreter_base(memory);
    // Whether it is that linker: the kernel is about to run its first instruction.
    let (ip, _, _) = user_registers();
    if base != 0 && ip == base.wrapping_add(linker.entry) {
        add_whole(process, &linker, base);
    }
    Some(())
}

/// All that a file's table covers.
#[inline(always)]
fn add_whole(process: u32, file: &CodeFile, bias: u64) {
    let mapping = file.table.mapping(0, i64::MAX as u64, bias);
    if mapping.pages_at != NO_TABLE {
        new::add(process, mapping);
    }
}

/// Where the dynamic linker is, by the auxiliary vector of a `struct mm_struct`; 0 if there is none. A global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn uw_interpreter_base(memory: u64) -> u64 {
    let mut at = memory.wrapping_add(u64::from(setting!(code.mm_saved_auxv)));
    let mut n = 0;
    while n < AUXV_PAIRS {
        let Some([kind, value]) = read::<[u64; 2]>(at, 0) else { return 0 };
        if kind == AT_BASE {
            return value;
        }
        if kind == AT_NULL {
            return 0;
        }
        at = at.wrapping_add(16);
        n += 1;
    }
    0
}
