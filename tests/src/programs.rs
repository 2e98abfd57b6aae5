//! Compiles the test programs, once per version of their sources and flags.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

/// A test program, by source file without its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// `programs/c/NAME.c`, with frame pointers.
    C(&'static str),
    /// The same without frame pointers.
    COmitFramePointer(&'static str),
    /// The same with further flags.
    CWith(&'static str, &'static [&'static str]),
    /// The same as a shared library.
    CLibraryWith(&'static str, &'static [&'static str]),
    /// `programs/c/NAME.c` with frame pointers and further flags, and what it is linked with.
    CLinked(&'static str, &'static [&'static str], &'static [&'static str]),
    /// `programs/c/NAME.c` as a shared library, with frame pointers.
    CLibrary(&'static str),
    /// `programs/c/NAME.c` with its C library in it.
    CStatic(&'static str),
    /// The same with musl.
    Musl(&'static str),
    /// The same with musl as a shared library.
    MuslShared(&'static str),
    /// `programs/c/NAME.c` for 32 bits, without a C library.
    Freestanding32(&'static str),
    /// `programs/cpp/NAME.cpp`, with frame pointers.
    Cpp(&'static str),
    /// The same, and what it is linked with.
    CppLinked(&'static str, &'static [&'static str]),
    /// The same without frame pointers.
    CppOmitFramePointer(&'static str),
    /// `programs/rust/NAME.rs`, with frame pointers.
    Rust(&'static str),
    /// The same without frame pointers.
    RustOmitFramePointer(&'static str),
}

const C_FLAGS: &[&str] = &[
    "-std=gnu17",
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    // One program recurses until it jumps out.
    "-Wno-infinite-recursion",
    // Calls of the malloc family are what is tested: none may be merged, moved or left out.
    "-fno-builtin",
];
const CPP_FLAGS: &[&str] = &["-std=c++20", "-O2", "-g", "-Wall", "-Wextra"];
const RUST_FLAGS: &[&str] = &["--edition=2024", "-O", "-g"];

impl Program {
    /// Compiles the program if that was not done before.
    ///
    /// # Errors
    /// When a compiler is missing or refuses; the text names the package or holds its output.
    pub fn compile(self) -> Result<PathBuf> {
        let ledger = source("c/ledger.c");
        match self {
            Self::C(name) => {
                build("gcc", &c_arguments(name, "-fno-omit-frame-pointer"), name, &[&ledger], &LINK_C)
            }
            Self::COmitFramePointer(name) => Self::CWith(name, &[]).compile(),
            Self::CWith(name, flags) => {
                let mut arguments = c_arguments(name, "-fomit-frame-pointer");
                arguments.extend(strings(flags));
                build("gcc", &arguments, name, &[&ledger], &LINK_C)
            }
            Self::CLinked(name, flags, libraries) => {
                let mut arguments = c_arguments(name, "-fno-omit-frame-pointer");
                arguments.extend(strings(flags));
                build("gcc", &arguments, name, &[&ledger], &[&LINK_C, LINK_ALL, libraries].concat())
            }
            Self::CLibraryWith(name, flags) => {
                let mut arguments = c_arguments(name, "-fomit-frame-pointer");
                arguments.extend(strings(flags));
                build("gcc", &arguments, &format!("{name}.so"), &[], &["-shared", "-fPIC"])
            }
            Self::CLibrary(name) => {
                let shared = ["-shared", "-fPIC"];
                build(
                    "gcc",
                    &c_arguments(name, "-fno-omit-frame-pointer"),
                    &format!("{name}.so"),
                    &[],
                    &shared,
                )
            }
            Self::CStatic(name) => c_with_library("gcc", name, &ledger, &["-static", "-pthread"]),
            Self::Musl(name) => c_with_library("musl-gcc", name, &ledger, &["-static"]),
            Self::MuslShared(name) => c_with_library("musl-gcc", name, &ledger, &[]),
            Self::Freestanding32(name) => {
                let last = ["-m32", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie"];
                build("gcc", &c_arguments(name, "-fno-omit-frame-pointer"), name, &[], &last)
            }
            Self::Cpp(name) => cpp(name, "-fno-omit-frame-pointer", &[]),
            Self::CppLinked(name, libraries) => cpp(name, "-fno-omit-frame-pointer", libraries),
            Self::CppOmitFramePointer(name) => cpp(name, "-fomit-frame-pointer", &[]),
            Self::Rust(name) => rust(name, &["-Cforce-frame-pointers=yes"]),
            Self::RustOmitFramePointer(name) => rust(name, &["-Cforce-frame-pointers=no"]),
        }
    }
}

/// Compiles `programs/c/NAME.c` and links it with the glibc in `folder`, so that it runs on that and all newer ones.
///
/// # Errors
/// As [`Program::compile`].
pub fn compile_on_glibc(name: &str, folder: &Path) -> Result<PathBuf> {
    let libraries = ["libpthread.so.0", "libc.so.6", "ld-linux-x86-64.so.2"].map(|name| folder.join(name));
    let inputs = libraries.each_ref().map(PathBuf::as_path);
    let mut arguments = c_arguments(name, "-fno-omit-frame-pointer");
    arguments.push("-nodefaultlibs".into());
    build("gcc", &arguments, name, &inputs, &["-lgcc"])
}

/// Compiles `programs/c/NAME.c`, or `programs/cpp/NAME.cpp`, to run on the libraries of Debian's release `suite` and
/// with `allocator`, which the program is linked with: nothing in its environment leads there, so it is started like any
/// other. The names in it are those of the oldest release.
///
/// # Errors
/// As [`Program::compile`], and when a release was not fetched.
pub fn compile_on_release(name: &str, suite: &str, allocator: Option<&Path>) -> Result<PathBuf> {
    let cpp = source(&format!("cpp/{name}.cpp"));
    let (compiler, arguments, named): (_, _, &[&str]) = if cpp.exists() {
        let mut arguments = strings(CPP_FLAGS);
        arguments.extend(["-fno-omit-frame-pointer".into(), cpp.into()]);
        ("g++", arguments, &["libstdc++.so.6", "libgcc_s.so.1"])
    } else {
        ("gcc", c_arguments(name, "-fno-omit-frame-pointer"), &[])
    };
    let mut inputs = vec![ledger_object()?];
    inputs.extend(allocator.map(Path::to_owned));
    for library in named.iter().chain(&["libpthread.so.0", "libdl.so.2", "libc.so.6", "ld-linux-x86-64.so.2"])
    {
        inputs.push(of_release(OLDEST, library)?.join(library));
    }
    let glibc = of_release(suite, "libc.so.6")?;
    let mut folders = vec![glibc.clone()];
    for library in ["libstdc++.so.6", "libgcc_s.so.1"] {
        folders.push(of_release(suite, library)?);
    }
    folders.extend(allocator.and_then(Path::parent).map(Path::to_owned));
    folders.dedup();
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let last = [
        format!("-Wl,--dynamic-linker={}", glibc.join("ld-linux-x86-64.so.2").display()),
        // For what the libraries need, too.
        format!("-Wl,--disable-new-dtags,-rpath={}", folders.join(":")),
        "-Wl,--allow-shlib-undefined".to_owned(),
        "-nodefaultlibs".to_owned(),
        "-lgcc".to_owned(),
    ];
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    build(compiler, &arguments, name, &inputs, &last.each_ref().map(String::as_str))
}

/// Compiles `tests/native`, a Rust program whose allocator tells of its samples: libdd-profiling-heap-allocator.
///
/// # Errors
/// If it cannot be compiled; the text holds cargo's output.
pub fn compile_native() -> Result<PathBuf> {
    static COMPILING: Mutex<()> = Mutex::new(());
    let _guard = COMPILING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = cache()?.join("native");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("native/Cargo.toml");
    let output = Command::new("cargo")
        .args(["rustc", "--quiet", "--release", "--locked", "--bin", "native-samples", "--target-dir"])
        .arg(&folder)
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--")
        .arg(format!("-Clink-arg={}", ledger_object()?.display()))
        .output()
        .context("failed to run cargo")?;
    // bindgen, which it is built with, needs libclang: bpftrace depends on it.
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo failed on tests/native (Debian package: libclang1)\n{said}");
    Ok(folder.join("release/native-samples"))
}

/// Compiles `programs/c/NAME.c` to run on the musl of Debian's release `suite`, which is its loader, too.
///
/// # Errors
/// As [`compile_on_release`].
pub fn compile_on_musl(name: &str, suite: &str) -> Result<PathBuf> {
    let musl = of_release(suite, "libc.so")?.join("libc.so");
    let linker = format!("-Wl,--dynamic-linker={}", musl.display());
    c_with_library("musl-gcc", name, &source("c/ledger.c"), &[&linker])
}

/// The oldest release that `./x setup` fetches.
const OLDEST: &str = "bullseye";

/// Every program there is, and the ledger that some are linked with.
///
/// # Errors
/// As [`Program::compile`].
pub fn compile_all() -> Result<Vec<PathBuf>> {
    use Program::{C, CLibrary, COmitFramePointer, CWith, Cpp, Rust};
    let c = [
        "busy", "control", "cross", "dynamic", "ending", "family", "growth", "held", "idle", "inlibc",
        "holding", "lasting", "many", "mappings", "mixed", "process", "remapped", "resting", "steps",
        "surge", "threaded", "twins",
    ];
    let others = [
        COmitFramePointer("family"),
        COmitFramePointer("frames"),
        COmitFramePointer("faults"),
        CLibrary("plugin"),
        CWith("offering", &["-O2"]),
        Cpp("correct"),
        Cpp("misfreed"),
        Cpp("objects"),
        Rust("collections"),
    ];
    let mut all: Vec<PathBuf> =
        c.map(C).into_iter().chain(others).map(Program::compile).collect::<Result<_>>()?;
    all.push(ledger_object()?);
    Ok(all)
}

/// The ledger's functions are visible to libraries that a program opens.
const LINK_C: [&str; 3] = ["-rdynamic", "-pthread", "-ldl"];

/// An allocator is linked though the program names nothing that only it has.
const LINK_ALL: &[&str] = &["-Wl,--no-as-needed"];

/// A file of `programs/`.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

fn c_arguments(name: &str, frame_pointers: &str) -> Vec<OsString> {
    let mut arguments = strings(C_FLAGS);
    arguments.push(frame_pointers.into());
    arguments.push(source(&format!("c/{name}.c")).into());
    arguments
}

fn c_with_library(compiler: &str, name: &str, ledger: &Path, last: &[&str]) -> Result<PathBuf> {
    build(compiler, &c_arguments(name, "-fno-omit-frame-pointer"), name, &[ledger], last)
}

fn cpp(name: &str, frame_pointers: &str, libraries: &[&str]) -> Result<PathBuf> {
    let mut arguments = strings(CPP_FLAGS);
    arguments.push(frame_pointers.into());
    arguments.push(source(&format!("cpp/{name}.cpp")).into());
    build("g++", &arguments, name, &[&ledger_object()?], &[&["-pthread"], LINK_ALL, libraries].concat())
}

fn rust(name: &str, flags: &[&str]) -> Result<PathBuf> {
    let mut arguments = strings(RUST_FLAGS);
    arguments.extend(strings(flags));
    arguments.push(source(&format!("rust/{name}.rs")).into());
    let mut object = OsString::from("-Clink-arg=");
    object.push(ledger_object()?);
    build("rustc", &arguments, name, &[Path::new(&object)], &[])
}

fn strings(of: &[&str]) -> Vec<OsString> {
    of.iter().map(OsString::from).collect()
}

fn ledger_object() -> Result<PathBuf> {
    build("gcc", &c_arguments("ledger", "-fno-omit-frame-pointer"), "ledger.o", &[], &["-c"])
}

/// Runs `compiler ARGUMENTS INPUTS LAST -o OUTPUT`, unless the cache has it.
fn build(
    compiler: &str,
    arguments: &[OsString],
    name: &str,
    inputs: &[&Path],
    last: &[&str],
) -> Result<PathBuf> {
    // One compiler at a time: two tests may want the same program.
    static COMPILING: Mutex<()> = Mutex::new(());
    let mut hasher = DefaultHasher::new();
    (compiler, arguments, inputs, last).hash(&mut hasher);
    let inputs_of_hash =
        arguments.iter().map(OsString::as_os_str).chain(inputs.iter().map(|path| path.as_os_str()));
    for file in inputs_of_hash.map(Path::new).filter(|path| path.is_file()) {
        fs::read(file)?.hash(&mut hasher);
    }
    for header in ["c/ledger.h", "c/sites.h", "c/arena.h"] {
        fs::read(source(header))?.hash(&mut hasher);
    }
    let folder = cache()?.join(format!("{:016x}", hasher.finish()));
    let output = folder.join(name);

    // A test that panicked while compiling leaves nothing half-done behind: the rename below is the last step.
    let _guard = COMPILING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if output.exists() {
        return Ok(output);
    }
    fs::create_dir_all(&folder)?;
    let unfinished = folder.join(format!("{name}.{}", std::process::id()));
    let result = Command::new(compiler)
        .args(arguments)
        .args(inputs)
        .args(last)
        .arg("-o")
        .arg(&unfinished)
        .output()
        .with_context(|| format!("failed to run {compiler} (Debian package: {})", package(compiler)))?;
    if !result.status.success() {
        bail!("{compiler} failed on {name}\n{}", String::from_utf8_lossy(&result.stderr));
    }
    fs::rename(&unfinished, &output)?;
    Ok(output)
}

/// `target/test-programs`: the test binary is in `target/PROFILE/deps`.
pub fn cache() -> Result<PathBuf> {
    Ok(target()?.join("test-programs"))
}

/// The folder of library `name` as the Debian release `suite` has it, which `./x setup` fetches.
///
/// # Errors
/// When it is not there.
pub fn of_release(suite: &str, name: &str) -> Result<PathBuf> {
    let root = target()?.join("releases").join(suite).join("root");
    let places = [
        "usr/lib/x86_64-linux-gnu",
        "lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-musl",
        "lib/x86_64-linux-musl",
    ]
    .map(|place| root.join(place));
    let found = places.into_iter().find(|place| place.join(name).exists());
    // Written when all that the release has was fetched.
    let fetched = root.with_file_name("unpacked").exists();
    found.with_context(|| match fetched {
        true => format!("Debian's {suite} has no {name}"),
        false => format!("no {name} in {}; `./x setup` fetches it", root.display()),
    })
}

fn target() -> Result<PathBuf> {
    let binary = env::current_exe().context("failed to find the test binary")?;
    Ok(binary.ancestors().nth(3).context("the test binary is not in a target directory")?.to_owned())
}

fn package(program: &str) -> &'static str {
    match program {
        "gcc" => "gcc",
        "g++" => "g++",
        "rustc" => "none; it comes with rustup",
        "sqlite3" => "sqlite3",
        "redis-server" => "redis-server",
        "nginx" => "nginx",
        "python3" => "python3",
        "gdb" => "gdb",
        "setpriv" | "unshare" => "util-linux",
        "musl-gcc" => "musl-tools",
        "strace" => "strace",
        "bpftrace" => "bpftrace",
        "go" => "golang-go",
        "node" => "nodejs",
        "heaptrack_print" => "heaptrack",
        "man" => "man-db",
        "callgrind_annotate" | "ms_print" | "dh_view.js" => "valgrind",
        "postgres" | "initdb" | "pgbench" | "psql" => "postgresql",
        _ => "unknown",
    }
}

/// Path of an installed program, looked for in `folders`.
///
/// # Errors
/// When it is in none; the text names the Debian package.
pub fn installed<P: AsRef<OsStr>>(program: &str, folders: &[P]) -> Result<PathBuf> {
    folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file()).with_context(
        || {
            format!(
                "{program} is not installed (Debian package: {}); `cargo xtask setup` installs it",
                package(program)
            )
        },
    )
}

/// Copies a program that is to be run. By another process: a descriptor of ours that is open for writing would go to what
/// other tests start meanwhile, until their exec, and nothing runs a file that somebody writes to (ETXTBSY).
///
/// # Errors
/// When it cannot be copied.
pub fn copy(program: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("--preserve=mode").args([program, to]).status()?;
    ensure!(status.success(), "failed to copy {}: cp ended with {status}", program.display());
    Ok(())
}
