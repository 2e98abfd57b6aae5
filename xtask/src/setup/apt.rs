//! The distribution's packages: which are missing, and installing them.

use std::path::Path;

use anyhow::{Result, bail};

use super::scope::Scope;
use crate::{
    machine::{as_root, has_command},
    step,
};

/// How one sees that a package, or another that does the same, is there.
enum Sign {
    Command(&'static str),
    File(&'static str),
    /// A file in a directory of each version: `PARENT/*/REST`.
    AnyVersion(&'static str, &'static str),
}

struct Package {
    name: &'static str,
    scope: Scope,
    sign: Sign,
}

const fn package(name: &'static str, scope: Scope, sign: Sign) -> Package {
    Package { name, scope, sign }
}

/// What has no other way to be installed. The BPF compiler and linker have: see `rust.rs`.
const PACKAGES: &[Package] = &[
    package("gcc", Scope::Build, Sign::Command("gcc")),
    package("g++", Scope::Build, Sign::Command("g++")),
    package("libc6-dev", Scope::Build, Sign::File("/usr/include/stdlib.h")),
    package("python3", Scope::Demo, Sign::File("/usr/bin/python3")),
    package(
        "python3-jsonschema",
        Scope::Everything,
        Sign::File("/usr/lib/python3/dist-packages/jsonschema/__init__.py"),
    ),
    package("sqlite3", Scope::Everything, Sign::Command("sqlite3")),
    package("nginx", Scope::Everything, Sign::Command("nginx")),
    package("postgresql", Scope::Everything, Sign::AnyVersion("/usr/lib/postgresql", "bin/postgres")),
    package("nodejs", Scope::Everything, Sign::Command("node")),
    package("git", Scope::Everything, Sign::Command("git")),
    package("perl", Scope::Everything, Sign::Command("perl")),
    package("redis-server", Scope::Everything, Sign::Command("redis-server")),
    package("gdb", Scope::Everything, Sign::Command("gdb")),
    package("strace", Scope::Everything, Sign::Command("strace")),
    package("bpftrace", Scope::Everything, Sign::Command("bpftrace")),
    // Its tools open what heaptrace writes in its tools' formats.
    package("valgrind", Scope::Everything, Sign::Command("callgrind_annotate")),
    package("heaptrack", Scope::Everything, Sign::Command("heaptrack_print")),
    package("man-db", Scope::Everything, Sign::Command("man")),
    package("jq", Scope::Everything, Sign::Command("jq")),
    package("musl-tools", Scope::Everything, Sign::Command("musl-gcc")),
    // Allocators that programs are linked with, or that are preloaded. The packages for development have the same names
    // in all releases, and bring the libraries and what they unwind with.
    package("libjemalloc-dev", Scope::Everything, Sign::File("/usr/lib/x86_64-linux-gnu/libjemalloc.a")),
    package(
        "libgoogle-perftools-dev",
        Scope::Everything,
        Sign::File("/usr/lib/x86_64-linux-gnu/libtcmalloc.so"),
    ),
    package("libmimalloc-dev", Scope::Everything, Sign::File("/usr/lib/x86_64-linux-gnu/libmimalloc.so")),
    package("libunwind-dev", Scope::Everything, Sign::File("/usr/include/x86_64-linux-gnu/libunwind.h")),
    // 81 MB to fetch and 464 MB on disk: no other compiler makes Go programs as they are in use.
    package("golang-go", Scope::Everything, Sign::Command("go")),
];

impl Sign {
    fn is_there(&self) -> bool {
        match self {
            Self::Command(name) => has_command(name),
            Self::File(path) => Path::new(path).is_file(),
            Self::AnyVersion(parent, rest) => std::fs::read_dir(parent)
                .is_ok_and(|versions| versions.flatten().any(|version| version.path().join(rest).is_file())),
        }
    }
}

pub fn missing(scope: Scope) -> Vec<&'static str> {
    PACKAGES
        .iter()
        .filter(|package| package.scope <= scope && !package.sign.is_there())
        .map(|package| package.name)
        .collect()
}

/// Whether the distribution is one whose packages we know by name.
pub fn available() -> bool {
    has_command("apt-get")
}

/// Debian starts a service as soon as its package is unpacked, unless `policy-rc.d` says 101. A machine's own
/// policy is left as it is; ours goes away again, also after an interrupt.
const INSTALL: &str = r#"
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
set -x
apt-get update -q || echo "going on with the package lists at hand" >&2
apt-get install -q -y --no-install-recommends --no-remove "$@"
"#;

/// # Errors
/// When there is no apt-get, with the list to install by hand, and when apt-get fails.
pub fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !available() {
        bail!("missing, and there is no apt-get to install it: {list} (names are Debian's)");
    }
    eprintln!("installing {list} (no service is started)");
    step::must(&format!("apt-get install {list}"), as_root("sh").args(["-c", INSTALL, "sh"]).args(packages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_tell_present_from_absent() {
        assert!(Sign::Command("sh").is_there());
        assert!(!Sign::Command("no-such-command-7").is_there());
        assert!(Sign::AnyVersion("/proc", "stat").is_there());
        assert!(!Sign::AnyVersion("/no-such-directory-7", "stat").is_there());
    }

    #[test]
    fn a_wider_scope_needs_all_that_a_narrower_one_needs() {
        let build = missing(Scope::Build);
        let everything = missing(Scope::Everything);
        assert!(build.iter().all(|package| everything.contains(package)));
    }
}
