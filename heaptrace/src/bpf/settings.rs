//! What the BPF programs are told once: the options and the kernel's offsets as the read-only data has them.

use super::{
    kernel_types::KernelTypes,
    options::{Calls, Members, Options, StackMode},
    sizes::MapSizes,
};
use crate::process::{privileges::own_user, procfs};
use heaptrace_common::{
    live,
    record::index,
    settings::{Settings, growth_calls, scope, stack_mode},
    share,
};

impl StackMode {
    fn setting(self) -> u32 {
        match self {
            Self::None => stack_mode::NONE,
            Self::FramePointers => stack_mode::FRAME_POINTERS,
            Self::Auto => stack_mode::AUTO,
            Self::Dwarf => stack_mode::DWARF,
        }
    }
}

impl Calls {
    fn setting(self) -> u32 {
        match self {
            Self::Summed => growth_calls::SUMMED,
            Self::Shown { .. } => growth_calls::SHOWN,
            Self::Followed => growth_calls::FOLLOWED,
        }
    }

    fn shown_min(self) -> u64 {
        match self {
            Self::Shown { min_bytes } => min_bytes,
            Self::Summed | Self::Followed => 0,
        }
    }
}

/// The settings for `options`, with `sizes` as the maps have them, and `scratch` buffers.
/// `base_ns` is now.
pub(super) fn settings(
    options: &Options,
    sizes: &MapSizes,
    types: &KernelTypes,
    scratch: u32,
    base_ns: u64,
    secret: u64,
) -> Settings {
    Settings {
        scope: match options.members {
            _ if options.all => scope::ALL,
            None => scope::TARGETS,
            Some(Members::User(_)) => scope::USER,
            Some(Members::Cgroup(_)) => scope::CGROUP,
            Some(Members::All) => scope::MACHINE,
        },
        follow: options.follow.into(),
        stack_mode: options.stacks.setting(),
        max_sites: sizes.sites,
        max_frames: sizes.frames,
        max_processes: sizes.processes,
        pending_mask: sizes.threads.next_power_of_two() - 1,
        task_tgid: types.task_tgid,
        task_signal: types.task_signal,
        signal_live: types.signal_live,
        page_size: procfs::page_size() as u32,
        probes_for_all: options.probes_for_all.into(),
        has_return_instances: types.return_instances.is_some().into(),
        returns: types.return_instances.unwrap_or_default(),
        has_code_files: (types.code_files.is_some() && options.stacks.uses_tables()).into(),
        code: types.code_files.unwrap_or_default(),
        min_size: options.block_sizes.map_or(0, |(min, _)| min),
        max_size: options.block_sizes.map_or(u64::MAX, |(_, max)| max),
        size_filter: options.block_sizes.is_some().into(),
        statistics: sizes.statistics.into(),
        cgroup_id: match options.members {
            Some(Members::Cgroup(id)) => id,
            _ => 0,
        },
        user: match options.members {
            Some(Members::User(id)) => id,
            _ => 0,
        },
        task_cred: types.task_cred,
        cred_euid: types.cred_euid,
        live_lines: live::lines_for(sizes.live),
        signal_flags: types.signal_flags,
        index_mask: index::cells_for(sizes.sites) - 1,
        own_user: own_user(),
        few_live: share::few(sizes.live),
        few_calls: share::few(sizes.threads.next_power_of_two()),
        max_spilled: sizes.spill(),
        base_ns,
        secret,
        log: options.log.into(),
        growth_calls: options.calls.setting(),
        shown_min: options.calls.shown_min(),
        scratch_mask: u64::from(scratch - 1),
        sample_bytes: options.sample_bytes,
        frees: options.frees.into(),
        threads: sizes.by_thread.into(),
        check_frees: sizes.checks_frees.into(),
        lifetimes: sizes.lifetimes.into(),
    }
}
