//! Offsets of kernel struct members, from the kernel's own BTF.

use super::LoadError;
use btf_rs::{Btf, BtfType as _, Struct, Type};

/// Where the running kernel describes its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Byte offsets that the BPF programs need.
#[derive(Clone, Copy, Debug)]
pub struct KernelTypes {
    pub task_tgid: u32,
    pub task_signal: u32,
    pub signal_live: u32,
}

impl KernelTypes {
    /// Reads them from the running kernel.
    pub fn read() -> Result<Self, LoadError> {
        let fail = |what: String| LoadError::KernelTypes { path: VMLINUX, what };
        let btf = Btf::from_file(VMLINUX).map_err(|error| fail(error.to_string()))?;
        let member = |structure: &str, member: &str| {
            let types = btf.resolve_types_by_name(structure).map_err(|error| fail(error.to_string()))?;
            types
                .iter()
                .find_map(|found| match found {
                    Type::Struct(found) => offset(&btf, found, member),
                    _ => None,
                })
                .ok_or_else(|| fail(format!("no member {member} in struct {structure}")))
        };
        Ok(Self {
            task_tgid: member("task_struct", "tgid")?,
            task_signal: member("task_struct", "signal")?,
            signal_live: member("signal_struct", "live")?,
        })
    }
}

/// Byte offset of `name` in `structure`, looking into anonymous members too.
fn offset(btf: &Btf, structure: &Struct, name: &str) -> Option<u32> {
    structure.members.iter().find_map(|member| {
        let here = member.bit_offset() / 8;
        match btf.resolve_name(member) {
            Ok(found) if found == name => Some(here),
            Ok(found) if !found.is_empty() => None,
            _ => match btf.resolve_type_by_id(member.get_type_id()?).ok()? {
                Type::Struct(inner) | Type::Union(inner) => Some(here + offset(btf, &inner, name)?),
                _ => None,
            },
        }
    })
}
