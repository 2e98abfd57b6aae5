//! What we may do, what we may not, and what grants it.

use super::diagnosis::{Capability, Grant, Privileges, Setting};
use crate::process::{
    privileges::{self, NEEDS, granted},
    system,
};
use caps::Capability as Cap;
use std::{env, path::PathBuf};

pub fn examine() -> Privileges {
    let held = privileges::Privileges::read();
    let missing = granted().filter(|capability| !held.holds(*capability)).map(|c| c.to_string()).collect();
    Privileges {
        uid: held.uid,
        effective_uid: held.effective_uid,
        user_namespace: held.in_user_namespace,
        capabilities: NEEDS
            .iter()
            .map(|need| Capability {
                name: need.capability.to_string(),
                held: held.holds(need.capability),
                required: need.required,
                used_for: need.used_for,
                otherwise: need.otherwise,
            })
            .collect(),
        missing,
        grants: grants(),
        settings: vec![
            setting(
                "kernel.perf_event_paranoid",
                false,
                "does not matter: probes need CAP_PERFMON whatever it says",
            ),
            setting(
                "kernel.perf_event_mlock_kb",
                !held.holds(Cap::CAP_IPC_LOCK),
                "without CAP_IPC_LOCK: news of code mappings take 516, so a user's second heaptrace may go without",
            ),
            setting(
                "kernel.unprivileged_bpf_disabled",
                false,
                "does not matter: probes need CAP_BPF and CAP_PERFMON whatever it says",
            ),
            setting(
                "kernel.yama.ptrace_scope",
                false,
                "does not matter: it forbids attaching with ptrace, which heaptrace never does",
            ),
        ],
    }
}

fn grants() -> Vec<Grant> {
    let exe = env::current_exe().unwrap_or_else(|_| PathBuf::from("/path/to/heaptrace"));
    let exe = exe.display();
    let names: Vec<String> = granted().map(|capability| capability.to_string()).collect();
    vec![
        Grant { how: "sudo", command: "sudo heaptrace ...".to_owned() },
        // Whoever may run it can look at every process, so not everyone.
        Grant {
            how: "setcap, for a group of users",
            command: format!(
                "sudo chgrp GROUP {exe} && sudo chmod 0750 {exe} && sudo setcap {}+ep {exe}",
                names.join(",").to_lowercase()
            ),
        },
        Grant { how: "systemd, in the unit", command: format!("AmbientCapabilities={}", names.join(" ")) },
    ]
}

fn setting(name: &'static str, matters: bool, meaning: &'static str) -> Setting {
    let file = format!("/proc/sys/{}", name.replace('.', "/"));
    let value = system::read_text(file).ok().map(|value| value.trim().to_owned());
    Setting { name, matters: matters && value.is_some(), value, meaning }
}
