//! Targets that put traps where heaptrace looks: it comes back, with what it was asked for, and takes little memory.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    caller, heaptrace,
    programs::{self, Program},
    report::Site,
    runner::{self, end_to_end},
    running::{Running, wait_for_file, wait_while_running},
};
use object::{Object as _, ObjectSection as _};
use std::{
    ffi::CString,
    fs,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    os::unix::{ffi::OsStrExt as _, fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// Bytes of memory that heaptrace gets by with, whatever is done to it.
const MEMORY: u64 = 500_000_000;

/// Bytes of data that it can have, so that one that takes more does not take the machine's memory. More than above: who
/// is refused memory may get by without, and would not be found out.
const GUARD: u64 = 2_000_000_000;

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("a FIFO as ld.so.preload", || preloaded(fifo)),
        end_to_end("a device without an end as ld.so.preload", || {
            preloaded(|path| Ok(symlink("/dev/zero", path)?))
        }),
        end_to_end("a ld.so.preload of a gigabyte", || {
            preloaded(|path| Ok(fs::File::create(path)?.set_len(1 << 30)?))
        }),
        end_to_end("64 GB of arguments", || without_end("arguments")),
        end_to_end("64 GB of environment", || without_end("environment")),
        end_to_end("60,000 symbol tables in one place", tables_over_one_another),
        end_to_end("more mapped files than descriptors", many_files),
        end_to_end("debug information that says it is a petabyte", endless_debug_information),
        end_to_end("a debug link to a FIFO", || debug_link(fifo)),
        end_to_end("a debug link to a device", debug_link_to_device),
        end_to_end("another process's stack with the same hash", one_hash),
        end_to_end("memory that never comes", unanswered),
        end_to_end("a heap of 20,000 heaps", || false_heap("heaps")),
        end_to_end("a heap of 5,000 arenas with lists in circles", || false_heap("arenas")),
    ])
}

fn fifo(path: &Path) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a C string that lives through the call.
    let made = unsafe { libc::mkfifo(path.as_ptr(), 0o644) };
    if made == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
}

/// The program `attacker`, once its trap is set.
fn attacker(arguments: &[&str], device: Option<&Path>, folder: &Path) -> Result<Running> {
    let made = folder.join("attacker is ready");
    // It may have another root by then.
    let seen = device.map_or_else(|| made.clone(), |root| root.join("ready"));
    let path = if device.is_some() { Path::new("/ready") } else { &made };
    let mut command = Command::new(Program::C("attacker").compile()?);
    command.args(arguments).env("ATTACKER_READY", path);
    ready(command, &seen, folder)
}

/// The same of a program or a user of its own; `seen` is the file that it makes.
fn ready(command: Command, seen: &Path, folder: &Path) -> Result<Running> {
    let mut attacker = Running::spawn(command, "attacker", folder)?;
    wait_for_file(seen, &mut attacker)?;
    Ok(attacker)
}

fn preloaded(trap: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let folder = TempDir::new()?;
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("etc"))?;
    trap(&root.join("etc/ld.so.preload"))?;
    let attacker = attacker(&["preload", text(&root)?], Some(&root), folder.path())?;
    ensure_all_come_back(attacker.pid(), folder.path())
}

fn without_end(what: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let attacker = attacker(&[what], None, folder.path())?;
    ensure_all_come_back(attacker.pid(), folder.path())
}

/// A library that says that it has 60,000 tables of symbols, all of them its only one.
fn tables_over_one_another() -> Result<()> {
    const COPIES: usize = 60_000;
    let folder = TempDir::new()?;
    let libraries = folder.path().join("libraries");
    fs::create_dir(&libraries)?;
    let mut file = fs::read(mapped("libc.so.6")?)?;
    let number = |at: usize, size: usize| {
        file[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    // e_shoff and e_shnum, elf(5).
    let (headers, count) = (number(40, 8), number(60, 2));
    let all = file[headers..headers + count * 64].to_vec();
    let symbols = (0..count).find(|section| number(headers + section * 64 + 4, 4) == 11);
    let symbols = symbols.context("no table of dynamic symbols")? * 64;
    let table = all[symbols..symbols + 64].repeat(COPIES);
    let end = file.len().next_multiple_of(8);
    file.resize(end, 0);
    file.extend([all, table].concat());
    file[40..48].copy_from_slice(&(end as u64).to_le_bytes());
    file[60..62].copy_from_slice(&u16::try_from(count + COPIES)?.to_le_bytes());
    fs::write(libraries.join("libhostile.so"), file)?;
    let attacker = attacker(&["maps", text(&libraries)?], None, folder.path())?;
    ensure_all_come_back(attacker.pid(), folder.path())
}

/// The file of that name that this process has mapped.
fn mapped(name: &str) -> Result<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let path = maps.lines().find_map(|line| line.get(line.find('/')?..).filter(|path| path.ends_with(name)));
    path.map(PathBuf::from).with_context(|| format!("no {name} here"))
}

/// The smallest ELF file that is mapped like a library.
fn smallest_library() -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // elf(5): a shared object for x86_64 with one program header, behind this one.
    for (number, size) in [(3, 2), (62, 2), (1, 4), (0, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (1, 2)]
    {
        file.extend(&u64::to_le_bytes(number)[..size]);
    }
    file.resize(64, 0);
    // PT_LOAD, readable and executable.
    for (number, size) in [(1, 4), (5, 4), (0, 8), (0, 8), (0, 8), (120, 8), (120, 8), (4096, 8)] {
        file.extend(&u64::to_le_bytes(number)[..size]);
    }
    file
}

fn many_files() -> Result<()> {
    const FILES: usize = 22_000;
    let folder = caller::open_folder()?;
    let libraries = folder.path().join("libraries");
    fs::create_dir(&libraries)?;
    for number in 0..FILES {
        fs::write(libraries.join(format!("lib{number}.so")), smallest_library())?;
    }
    let (program, seen) = (folder.path().join("maps-many"), folder.path().join("ready"));
    caller::copy(&Program::C("attacker").compile()?, &program)?;
    let mut command = caller::as_user(caller::CALLER, &program)?;
    command.arg("maps").arg(&libraries).env("ATTACKER_READY", &seen);
    let _attacker = ready(command, &seen, folder.path())?;
    // Found and looked into after the attacker.
    let others = TempDir::new()?;
    let mut command = Command::new(&program);
    command.arg("file").env("ATTACKER_READY", others.path().join("ready"));
    let victim = ready(command, &others.path().join("ready"), others.path())?;
    let mut command = heaptrace::command(&["record", "--comm", "maps-many", "-d", "3s", "-o"])?;
    command.arg(heaptrace::record_file(others.path()));
    let mut recorder = Running::spawn(command, "heaptrace", others.path())?;
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(others.path())?;
    let counted = report.process(victim.pid()).map_or(0, |process| process.alloc_count);
    ensure!(counted > 0, "{}", recorder.describe("has lost the other process"));
    Ok(())
}

/// Runs a tool on files of `folder`.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program).args(arguments).current_dir(folder).status();
    let status = status.with_context(|| format!("failed to run {program}"))?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

/// Traces the program of `folder`, which is the trap itself. Its names are there, whatever else is not.
fn ensure_names_are_found(folder: &Path) -> Result<()> {
    let mut command = Command::new(folder.join("program"));
    command.arg("file").env("ATTACKER_READY", folder.join("ready"));
    let attacker = ready(command, &folder.join("ready"), folder)?;
    ensure_all_come_back(attacker.pid(), folder)?;
    let report = heaptrace::report(folder)?;
    let named = |site: &Site| site.stack.iter().any(|frame| frame.symbol.as_deref() == Some("site_attacker"));
    ensure!(report.sites_of(attacker.pid()).any(named), "the program's functions have no names");
    Ok(())
}

fn endless_debug_information() -> Result<()> {
    let folder = TempDir::new()?;
    let program = folder.path().join("program");
    programs::copy(&Program::C("attacker").compile()?, &program)?;
    run(folder.path(), "objcopy", &["--compress-debug-sections=zlib", "program"])?;
    let mut file = fs::read(&program)?;
    let at = {
        let parsed = object::File::parse(&*file)?;
        let section = parsed.section_by_name(".debug_info").context("no debug information")?;
        section.file_range().context("no bytes of it")?.0 as usize
    };
    // ch_size, elf(5).
    file[at + 8..at + 16].copy_from_slice(&(1_u64 << 50).to_le_bytes());
    fs::write(&program, file)?;
    ensure_names_are_found(folder.path())
}

fn debug_link(trap: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let folder = TempDir::new()?;
    programs::copy(&Program::C("attacker").compile()?, &folder.path().join("program"))?;
    run(folder.path(), "objcopy", &["--strip-debug", "program"])?;
    let target = folder.path().join("trap");
    trap(&target)?;
    // A path, which is nothing that any tool writes; then a checksum.
    let mut link = text(&target)?.as_bytes().to_vec();
    link.resize((link.len() + 1).next_multiple_of(4) + 4, 0);
    fs::write(folder.path().join("link"), link)?;
    run(folder.path(), "objcopy", &["--add-section", ".gnu_debuglink=link", "program"])?;
    ensure_names_are_found(folder.path())?;
    // The same beside the program, by its name alone.
    let mut link = b"trap".to_vec();
    link.resize(12, 0);
    fs::write(folder.path().join("link"), link)?;
    run(folder.path(), "objcopy", &["--update-section", ".gnu_debuglink=link", "program"])?;
    ensure_names_are_found(folder.path())
}

/// What opening a device does is up to its driver, so that it is opened at all is the harm.
fn debug_link_to_device() -> Result<()> {
    let folder = TempDir::new()?;
    let device = folder.path().join("zero");
    let path = CString::new(device.as_os_str().as_bytes())?;
    // SAFETY: a C string that lives through the calls, and numbers; the descriptor is nobody else's.
    let events = unsafe {
        let made = libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 5));
        ensure!(made == 0, "failed to make a device: {}", io::Error::last_os_error());
        let events = libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK);
        ensure!(events >= 0, "no inotify: {}", io::Error::last_os_error());
        let events = OwnedFd::from_raw_fd(events);
        let watch = libc::inotify_add_watch(events.as_raw_fd(), path.as_ptr(), libc::IN_OPEN);
        ensure!(watch >= 0, "failed to watch: {}", io::Error::last_os_error());
        fs::File::from(events)
    };
    let is_opened = || (&events).read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0);
    debug_link(|path| Ok(symlink(&device, path)?))?;
    ensure!(!is_opened(), "the device was opened");
    let _ = fs::File::open(&device);
    ensure!(is_opened(), "opening the device is not seen, so nothing is shown");
    Ok(())
}

fn one_hash() -> Result<()> {
    let folder = TempDir::new()?;
    let (seen, go) = (folder.path().join("ready"), folder.path().join("go"));
    let mut command = Command::new(Program::C("collide").compile()?);
    command.env("COLLIDE_READY", &seen).env("COLLIDE_GO", &go);
    let mut victim = ready(command, &seen, folder.path())?;
    wait_while_running(&mut victim, "name its child", || {
        fs::read_to_string(&seen).is_ok_and(|text| text.ends_with('\n'))
    })?;
    let attacker: u32 = fs::read_to_string(&seen)?.trim().parse()?;
    let mut recorder =
        heaptrace::attach(&[attacker, victim.pid()], &["--stack", "fp", "-d", "4s"], folder.path())?;
    // Its stack is there first.
    thread::sleep(Duration::from_secs(1));
    fs::write(go, "")?;
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(folder.path())?;
    ensure!(report.sites_of(attacker).count() > 0, "{}", recorder.describe("saw nothing of the attacker"));
    let sites: Vec<&Site> = report.sites_of(victim.pid()).collect();
    ensure!(!sites.is_empty(), "{}", recorder.describe("saw nothing of the victim"));
    for site in sites {
        let own = site.stack.iter().any(|frame| frame.symbol.as_deref() == Some("site_victim"));
        ensure!(own, "the victim's stack is another's: {:?}", site.stack);
    }
    Ok(())
}

/// A list of its allocator's leads to memory of a file system that does not answer.
fn unanswered() -> Result<()> {
    /// Where users may not mount, with or without a namespace of their own.
    const MAY_NOT: i32 = 77;
    let folder = caller::open_folder()?;
    let (program, device, mounted) =
        (folder.path().join("unanswered"), folder.path().join("fuse"), folder.path().join("mounted"));
    caller::copy(&Program::C("unanswered").compile()?, &program)?;
    fs::create_dir(&mounted)?;
    std::os::unix::fs::chown(&mounted, Some(caller::CALLER), None)?;
    // As udev makes it.
    run(folder.path(), "mknod", &["-m", "666", "fuse", "c", "10", "229"])?;
    let seen = folder.path().join("ready");
    let mut command = caller::as_user(caller::CALLER, &program)?;
    command.arg(&device).arg(&mounted).env("ATTACKER_READY", &seen);
    let mut attacker = Running::spawn(command, "attacker", folder.path())?;
    while !seen.exists() {
        if let Some(status) = attacker.poll()? {
            ensure!(status.code() == Some(MAY_NOT), "{}", attacker.describe("has ended"));
            println!("skipped: users may not mount FUSE here");
            return Ok(());
        }
        thread::sleep(Duration::from_millis(3));
    }
    let others = TempDir::new()?;
    let mut recorder = heaptrace::attach(&[attacker.pid()], &["-d", "1s"], others.path())?;
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(others.path())?;
    ensure!(report.sites_of(attacker.pid()).count() > 0, "{}", recorder.describe("saw nothing"));
    let mut command = heaptrace::command(&["inspect", &attacker.pid().to_string()])?;
    command.stdin(std::process::Stdio::null());
    // It may say that it cannot.
    Running::spawn(command, "inspect", others.path())?.wait()?;
    Ok(())
}

/// An allocator that says that it has far more than there is.
fn false_heap(what: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let attacker = attacker(&[what], None, folder.path())?;
    ensure_all_come_back(attacker.pid(), folder.path())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("not UTF-8")
}

/// Every command that looks at a process ends well, and in time, with little memory.
fn ensure_all_come_back(pid: u32, folder: &Path) -> Result<()> {
    let pid = pid.to_string();
    let file = heaptrace::record_file(folder);
    let file = text(&file)?;
    for arguments in [
        &["record", "-o", file, "-p", &pid, "-d", "1s"][..],
        &["report", file],
        &["doctor", &pid],
        &["inspect", &pid],
        &["stat", "-p", &pid, "-d", "1s"],
        &["watch", "-p", &pid, "-d", "1s"],
        &["leaks", "-p", &pid, "-d", "1s"],
        &["top", "-p", &pid, "-d", "2s", "--format", "text"],
    ] {
        let mut command = heaptrace::command(arguments)?;
        // SAFETY: setrlimit is async-signal-safe, and its argument is a local's.
        unsafe {
            command.pre_exec(|| {
                let limit = libc::rlimit { rlim_cur: GUARD, rlim_max: GUARD };
                match libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let mut running = Running::spawn(command, "heaptrace", folder)?;
        let status = running.wait()?;
        ensure!(status.success(), "{}", running.describe(&format!("{arguments:?} ended with {status}")));
        let peak = running.peak_bytes();
        ensure!(peak > 0 && peak <= MEMORY, "{arguments:?} took {peak} bytes of memory");
    }
    Ok(())
}
