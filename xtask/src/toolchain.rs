//! Finds what compiles the BPF programs: the one judge, shared by `heaptrace/build.rs` and by `xtask setup`.
//!
//! Standard library only, because a build script includes this file by its path. It looks; it installs nothing.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The LLVM that `xtask setup` builds bpf-linker with. A linker reads the bitcode of its own LLVM and of older
/// ones, not of newer ones, so a compiler is compared with this.
pub const LLVM_MAJOR: u32 = 22;

/// The first distribution compiler that was seen to build the BPF crate.
const DISTRIBUTION_MIN: (u32, u32) = (1, 96);

/// Where a distribution puts its compiler; rustup never writes there.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

pub const TARGET: &str = "bpfel-unknown-none";

/// A compiler that can make code for [`TARGET`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// rustup's nightly, which compiles `core` itself from `rust-src`.
    Nightly { rustc: PathBuf, release: String },
    /// A distribution's compiler with a prebuilt `core` for the target. It is a stable one, so the unstable
    /// features that aya-ebpf uses have to be allowed by environment.
    Distribution { rustc: PathBuf, release: String },
}

/// Everything the BPF build needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    pub compiler: Compiler,
    pub linker: PathBuf,
}

/// What was looked for and not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    Compiler { tried: Vec<String> },
    Linker,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler { tried } => {
                write!(f, "no compiler for {TARGET}")?;
                tried.iter().try_for_each(|reason| write!(f, "; {reason}"))
            }
            Self::Linker => write!(f, "no bpf-linker on PATH or in cargo's bin directory"),
        }
    }
}

impl std::error::Error for Missing {}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly { release, .. } => write!(f, "rustup's nightly {release} with rust-src"),
            Self::Distribution { rustc, release } => write!(f, "{} {release}", rustc.display()),
        }
    }
}

impl Compiler {
    pub fn rustc(&self) -> &Path {
        match self {
            Self::Nightly { rustc, .. } | Self::Distribution { rustc, .. } => rustc,
        }
    }
}

impl Toolchain {
    /// # Errors
    /// Says which part is missing, and why each candidate was refused.
    pub fn find() -> Result<Self, Missing> {
        Ok(Self { compiler: find_compiler()?, linker: find_linker().ok_or(Missing::Linker)? })
    }

    /// `cargo build` for the BPF crate in `dir`.
    pub fn build(&self, dir: &Path) -> Command {
        let mut cargo = match &self.compiler {
            Compiler::Nightly { .. } => nightly_cargo(),
            Compiler::Distribution { .. } => Command::new(outer_cargo()),
        };
        self.prepare(&mut cargo, "build", dir, &dir.join("target"));
        cargo
    }

    /// The same for what tests alone load: the judged build, and the judge. Apart, so that neither is ever taken for the
    /// programs that users run.
    pub fn build_judged(&self, dir: &Path) -> Command {
        let mut cargo = match &self.compiler {
            Compiler::Nightly { .. } => nightly_cargo(),
            Compiler::Distribution { .. } => Command::new(outer_cargo()),
        };
        self.prepare(&mut cargo, "build", dir, &dir.join(JUDGED_TARGET));
        cargo.args(["--features", "judge"]);
        cargo
    }

    /// `cargo clippy` for the BPF crate in `dir`: the clippy that belongs to the compiler, because no other can
    /// read its `core`.
    pub fn clippy(&self, dir: &Path) -> Command {
        let mut cargo = match &self.compiler {
            Compiler::Nightly { .. } => nightly_cargo(),
            Compiler::Distribution { rustc, .. } => Command::new(rustc.with_file_name("cargo-clippy")),
        };
        self.prepare(&mut cargo, "clippy", dir, &dir.join("target"));
        cargo
    }

    /// Adds what the BPF build needs, in an environment free of what an outer cargo has set.
    fn prepare(&self, cargo: &mut Command, subcommand: &str, dir: &Path, target: &Path) {
        clear_outer_cargo(cargo);
        cargo.arg(subcommand).args(["--release", "--target", TARGET]).current_dir(dir);
        // Its own target directory, beside its lock file: one build serves every profile of the outer
        // workspace, and no lock of the outer cargo is waited for.
        cargo.arg("--target-dir").arg(target);
        match &self.compiler {
            Compiler::Nightly { .. } => {
                cargo.args(["-Z", "build-std=core"]);
            }
            Compiler::Distribution { rustc, .. } => {
                cargo.env("CARGO", outer_cargo()).env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            }
        }
        // The target's own specification names `bpf-linker`, without a path.
        if let Some(bin) = self.linker.parent() {
            let path = env::var_os("PATH").unwrap_or_default();
            let dirs = std::iter::once(bin.to_owned()).chain(env::split_paths(&path));
            if let Ok(joined) = env::join_paths(dirs) {
                cargo.env("PATH", joined);
            }
        }
    }
}

fn nightly_cargo() -> Command {
    let mut rustup = Command::new("rustup");
    rustup.args(["run", "nightly", "cargo"]);
    rustup
}

/// The cargo that runs us, which a distribution's compiler works with.
fn outer_cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The object that [`Toolchain::build`] leaves behind.
pub fn object(dir: &Path) -> PathBuf {
    dir.join("target").join(TARGET).join("release").join("heaptrace")
}

/// The target directory of [`Toolchain::build_judged`].
const JUDGED_TARGET: &str = "target/judged";

/// The objects that [`Toolchain::build_judged`] leaves behind: of the judged build and of the judge.
pub fn judged_objects(dir: &Path) -> [PathBuf; 2] {
    ["heaptrace", "judge"].map(|name| dir.join(JUDGED_TARGET).join(TARGET).join("release").join(name))
}

/// Cargo tells a build script, or `cargo run`'s program, which compiler, flags and directories *it* uses. None
/// of that is true of the BPF build.
fn clear_outer_cargo(command: &mut Command) {
    const NAMES: &[&str] = &[
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO",
        "OUT_DIR",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        // The outer toolchain's own libraries, put there by rustup's proxy and by cargo.
        "LD_LIBRARY_PATH",
    ];
    const PREFIXES: &[&str] = &[
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CLIPPY_",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if NAMES.contains(&text.as_ref()) || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

fn find_compiler() -> Result<Compiler, Missing> {
    let nightly = nightly();
    if let Ok((compiler, llvm)) = &nightly
        && *llvm <= LLVM_MAJOR
    {
        return Ok(compiler.clone());
    }
    match (distribution(), nightly) {
        (Ok(compiler), _) => Ok(compiler),
        // Newer than the linker that `setup` builds, but the user's own linker may be newer too.
        (Err(_), Ok((compiler, _))) => Ok(compiler),
        (Err(distribution), Err(nightly)) => Err(Missing::Compiler { tried: vec![nightly, distribution] }),
    }
}

/// The nightly compiler and the major version of its LLVM.
fn nightly() -> Result<(Compiler, u32), String> {
    // Without the variable, asking for a toolchain that is not there would install it.
    let mut which = Command::new("rustup");
    which.args(["which", "--toolchain", "nightly", "rustc"]).env("RUSTUP_AUTO_INSTALL", "0");
    let rustc = output(&mut which).ok_or("rustup has no nightly toolchain")?;
    let rustc = PathBuf::from(rustc.trim());
    let version = Version::of(&rustc).ok_or("nightly's rustc does not run")?;
    if !sysroot(&rustc)
        .is_some_and(|root| root.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file())
    {
        return Err("nightly lacks the rust-src component".to_owned());
    }
    Ok((Compiler::Nightly { rustc, release: version.release }, version.llvm))
}

fn distribution() -> Result<Compiler, String> {
    let rustc = PathBuf::from(DISTRIBUTION_RUSTC);
    let version = Version::of(&rustc).ok_or_else(|| format!("{DISTRIBUTION_RUSTC} is not there"))?;
    if version.number() < DISTRIBUTION_MIN {
        let (major, minor) = DISTRIBUTION_MIN;
        return Err(format!("{DISTRIBUTION_RUSTC} is {}, older than {major}.{minor}", version.release));
    }
    if version.llvm > LLVM_MAJOR {
        return Err(format!("{DISTRIBUTION_RUSTC} uses LLVM {}, newer than {LLVM_MAJOR}", version.llvm));
    }
    if !sysroot(&rustc).is_some_and(|root| has_core(&root.join("lib/rustlib").join(TARGET).join("lib"))) {
        return Err(format!("{DISTRIBUTION_RUSTC} has no core library for {TARGET}"));
    }
    Ok(Compiler::Distribution { rustc, release: version.release })
}

/// `bpf-linker` on PATH, or where `cargo install` puts it.
pub fn find_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_bin = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .map(|home| home.join("bin"));
    env::split_paths(&path).chain(cargo_bin).map(|dir| dir.join("bpf-linker")).find(|file| file.is_file())
}

/// What `rustc -vV` says.
struct Version {
    release: String,
    llvm: u32,
}

impl Version {
    fn of(rustc: &Path) -> Option<Self> {
        let text = output(Command::new(rustc).arg("-vV"))?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
        Some(Self { release: field("release: ")?.to_owned(), llvm })
    }

    /// `(major, minor)` of the release.
    fn number(&self) -> (u32, u32) {
        let mut parts = self.release.split('.').map_while(|part| part.parse().ok());
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    output(Command::new(rustc).args(["--print", "sysroot"])).map(|text| PathBuf::from(text.trim()))
}

fn has_core(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// The standard output of a command that succeeds.
fn output(command: &mut Command) -> Option<String> {
    clear_outer_cargo(command);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
