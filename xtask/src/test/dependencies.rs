//! What crates may be depended on: licenses, sources, versions, and known vulnerabilities; `deny.toml` says which.

use anyhow::Result;

use super::checks::Checks;
use crate::{repo::Repo, setup};

/// What the lock files and the crates themselves tell.
const OF_CRATES: [&str; 3] = ["bans", "licenses", "sources"];

/// Building cargo-deny takes minutes, and the advisories are fetched: so without `all` it is used where it is installed,
/// and for what it knows by itself.
pub fn check(repo: &Repo, all: bool, checks: &mut Checks) -> Result<()> {
    if all {
        setup::cargo_deny(repo)?;
    } else if !setup::has_cargo_deny(repo) {
        let how = "cargo-deny is not installed (cargo install --locked cargo-deny)";
        checks.leave_out("dependencies' licenses, sources and advisories", how);
        return Ok(());
    }
    // A relative one would be looked for beside the manifest.
    let config = repo.root().join("deny.toml");
    let deny = |manifest: &str| {
        let mut cargo = repo.cargo();
        cargo.args(["deny", "--manifest-path", manifest, "--config"]).arg(&config);
        cargo
    };
    let advisories = if !all {
        Err("only with --all, as they are fetched")
    } else if deny("Cargo.toml").args(["fetch", "db"]).status()?.success() {
        Ok(())
    } else {
        Err("they cannot be fetched from here")
    };
    for (name, manifest) in
        [("dependencies", "Cargo.toml"), ("dependencies, BPF", "heaptrace-ebpf/Cargo.toml")]
    {
        let mut cargo = deny(manifest);
        cargo.arg("check").args(OF_CRATES);
        if advisories.is_ok() {
            cargo.arg("advisories");
        }
        checks.run(name, &mut cargo)?;
    }
    if let Err(why) = advisories {
        checks.leave_out("dependencies' advisories", why);
    }
    Ok(())
}
