//! The judge: counts the calls of the allocation functions that `heaptrace doctor --format json` names, in every process
//! that maps their files, until a signal ends it.
//! usage: heaptrace-judge DIAGNOSIS; says "judging" once it does, and prints what it has counted at the end

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Array, HashMap, Map, MapData};
use aya_obj::{Object, generated::bpf_map_type};
use heaptrace::bpf::Btf;
use heaptrace_common::{
    function::{Function, Shape},
    judged::{JudgeCookie, JudgeCount, UnderWay},
};
use heaptrace_judged::{Table, table};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::{
    collections::{BTreeMap, HashSet},
    env,
    ffi::CString,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/judge.bpf.o"));

#[derive(Deserialize)]
struct Diagnosis {
    process: Process,
}

#[derive(Deserialize)]
struct Process {
    probes: Vec<Probe>,
}

#[derive(Deserialize)]
struct Probe {
    symbol: String,
    function: String,
    path: String,
    /// Offset in the file.
    entry: u64,
    /// None where all that the function does is a jump to another one, whose calls its calls are.
    sites: Vec<IgnoredAny>,
}

#[derive(Serialize)]
struct Judgement {
    functions: Table,
    nested: u64,
    left: u64,
    unpaired: u64,
    own: u64,
    full: u64,
    /// Calls that had not returned at the end, by function.
    under_way: BTreeMap<&'static str, u64>,
}

fn main() -> Result<()> {
    let file = env::args_os().nth(1).context("usage: heaptrace-judge DIAGNOSIS")?;
    let text = fs::read(&file).context("failed to read the diagnosis")?;
    let Diagnosis { process: Process { mut probes } } =
        serde_json::from_slice(&text).context("the diagnosis is not as documented")?;
    // Of functions whose calls are told there is nothing to add up.
    let is_told = |probe: &Probe| function(probe).is_ok_and(Function::is_told);
    probes.retain(|probe| !probe.sites.is_empty() && !is_told(probe));
    ensure!(!probes.is_empty(), "there is nothing to judge");
    let signals = block_signals()?;
    let judge = Judge::load()?;
    let mut links = Vec::new();
    let mut files: BTreeMap<&str, Vec<&Probe>> = BTreeMap::new();
    for probe in &probes {
        files.entry(&probe.path).or_default().push(probe);
    }
    for (path, probes) in &files {
        let offsets: Vec<u64> = probes.iter().map(|probe| probe.entry).collect();
        let cookies = probes.iter().map(|probe| Ok(cookie(probe)?.to_bits())).collect::<Result<Vec<_>>>()?;
        links
            .push(judge.attach(path, &offsets, &cookies).with_context(|| format!("failed to judge {path}"))?);
    }
    eprintln!("judging {} functions", probes.len());
    wait(&signals)?;
    drop(links);
    println!("{}", serde_json::to_string(&judge.judgement()?)?);
    Ok(())
}

fn function(probe: &Probe) -> Result<Function> {
    let known = Function::ALL.into_iter().find(|function| function.name() == probe.function);
    known.with_context(|| format!("{}: no function is called {}", probe.symbol, probe.function))
}

/// How the function is called, by its name alone: what heaptrace reads where is not asked.
fn cookie(probe: &Probe) -> Result<JudgeCookie> {
    let name = probe.symbol.as_str();
    let function = function(probe)?;
    let plain = ["mi_", "tc_", "je_"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let shape = match plain {
        "malloc"
        | "valloc"
        | "zalloc"
        | "malloc_small"
        | "zalloc_small"
        | "malloc_aligned"
        | "zalloc_aligned"
        | "malloc_aligned_at"
        | "zalloc_aligned_at"
        | "new"
        | "new_aligned"
        | "new_nothrow"
        | "new_aligned_nothrow"
        | "newarray"
        | "newarray_nothrow"
        | "newarray_aligned"
        | "newarray_aligned_nothrow"
        | "malloc_skip_new_handler"
        | "mallocx"
        | "smallocx" => Shape::Size0,
        "aligned_alloc"
        | "memalign"
        | "heap_malloc"
        | "heap_malloc_small"
        | "heap_malloc_aligned"
        | "heap_malloc_aligned_at"
        | "heap_zalloc"
        | "heap_zalloc_aligned"
        | "heap_zalloc_aligned_at"
        | "heap_alloc_new" => Shape::Size1,
        "heap_calloc"
        | "heap_mallocn"
        | "heap_calloc_aligned"
        | "heap_calloc_aligned_at"
        | "heap_alloc_new_n" => Shape::Product12,
        "heap_realloc"
        | "heap_reallocf"
        | "heap_rezalloc"
        | "heap_realloc_aligned"
        | "heap_realloc_aligned_at"
        | "heap_rezalloc_aligned"
        | "heap_rezalloc_aligned_at" => Shape::Resize12,
        "heap_reallocn" | "heap_recalloc" | "heap_recalloc_aligned" | "heap_recalloc_aligned_at" => {
            Shape::ResizeProduct123
        }
        "pvalloc" => Shape::Pages0,
        "calloc" | "mallocn" | "calloc_aligned" | "calloc_aligned_at" | "new_n" => Shape::Product01,
        "posix_memalign" => Shape::OutPointer,
        "realloc"
        | "reallocf"
        | "rallocx"
        | "rezalloc"
        | "realloc_aligned"
        | "realloc_aligned_at"
        | "rezalloc_aligned"
        | "rezalloc_aligned_at"
        | "new_realloc" => Shape::Resize,
        "reallocarray"
        | "reallocn"
        | "recalloc"
        | "recalloc_aligned"
        | "recalloc_aligned_at"
        | "aligned_recalloc"
        | "aligned_offset_recalloc"
        | "new_reallocn" => Shape::ResizeProduct,
        "free" | "cfree" | "free_sized" | "free_aligned_sized" | "free_size" | "free_size_aligned"
        | "free_aligned" | "dallocx" | "sdallocx" => Shape::Free0,
        other if other.starts_with("_Znwm") || other.starts_with("_Znam") => Shape::Size0,
        other
            if other.starts_with("_ZdlPv") || other.starts_with("_ZdaPv") || other.starts_with("delete") =>
        {
            Shape::Free0
        }
        _ => bail!("{name} is not known to the judge"),
    };
    let library = probe.path.contains(".so");
    Ok(JudgeCookie { function: function as u8, shape: shape as u8, library: library.into() })
}

struct Judge {
    program: OwnedFd,
    maps: BTreeMap<String, Map>,
}

impl Judge {
    fn load() -> Result<Self> {
        let mut object = Object::parse(OBJECT).context("the object is broken")?;
        let mut maps = BTreeMap::new();
        let mut definitions: Vec<(String, RawFd, aya_obj::Map)> = Vec::new();
        for (name, definition) in &object.maps {
            let data = MapData::create(definition.clone(), name, None)
                .with_context(|| format!("failed to make map {name}"))?;
            definitions.push((name.clone(), data.fd().as_fd().as_raw_fd(), definition.clone()));
            let is_array = definition.map_type() == bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
            maps.insert(name.clone(), if is_array { Map::Array(data) } else { Map::HashMap(data) });
        }
        let types = fs::read("/sys/kernel/btf/vmlinux").context("the kernel does not describe its types")?;
        let types = Btf::parse(&types).context("the kernel's types cannot be read")?;
        let map = maps.get_mut("OFFSETS").context("no map OFFSETS")?;
        let mut map: Array<&mut MapData, u64> = map.try_into()?;
        let members = [("task_struct", "mm"), ("mm_struct", "owner"), ("task_struct", "tgid")];
        for (index, (of, member)) in (0..).zip(members) {
            let offset = types.member_offset(of, member).with_context(|| format!("no {of}.{member}"))?;
            map.set(index, u64::from(offset), 0)?;
        }
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(definitions.iter().map(|(name, fd, map)| (name.as_str(), *fd, map)), &text)?;
        object.relocate_calls(&text)?;
        let program = object.programs.get("judge").context("no program")?;
        let function = object.functions.get(&program.function_key()).context("no function")?;
        let mut log = vec![0u8; 1 << 20];
        // type, instructions; instructions; licence; log's level and size; log
        let mut load = [0u64; 16];
        load[0] = BPF_PROG_TYPE_KPROBE | (function.instructions.len() as u64) << 32;
        load[1] = function.instructions.as_ptr() as u64;
        load[2] = c"Dual MIT/GPL".as_ptr() as u64;
        load[3] = 1 | (log.len() as u64) << 32;
        load[4] = log.as_mut_ptr() as u64;
        // expected_attach_type is at byte 68.
        load[8] = BPF_TRACE_UPROBE_SESSION << 32;
        let program = bpf(BPF_PROG_LOAD, &load).with_context(|| {
            let text = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = text.trim_end_matches('\0').lines().collect();
            format!("failed to load the program\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
        })?;
        Ok(Self { program, maps })
    }

    /// Sessions at `offsets` of the file at `path`, in all processes.
    fn attach(&self, path: &str, offsets: &[u64], cookies: &[u64]) -> io::Result<OwnedFd> {
        let path = CString::new(path)?;
        // program; attach type, flags; path, offsets, reference counters, cookies; count, flags; pid
        let link = [
            self.program.as_raw_fd() as u64,
            BPF_TRACE_UPROBE_SESSION,
            path.as_ptr() as u64,
            offsets.as_ptr() as u64,
            0,
            cookies.as_ptr() as u64,
            offsets.len() as u64,
            0,
        ];
        bpf(BPF_LINK_CREATE, &link)
    }

    fn map(&self, name: &str) -> Result<&Map> {
        self.maps.get(name).with_context(|| format!("no map {name}"))
    }

    fn judgement(&self) -> Result<Judgement> {
        let counts: Array<&MapData, u64> = self.map("COUNTS")?.try_into()?;
        let count = |of: JudgeCount| counts.get(&(of as u32), 0).context("failed to read the counts");
        let calls: HashMap<&MapData, u64, Call> = self.map("CALLS")?.try_into()?;
        let mut under_way = BTreeMap::new();
        for call in calls.iter() {
            let (_, Call(UnderWay { function, .. })) = call.context("failed to read the calls")?;
            let function = Function::from_number(function).context("there is no such function")?;
            *under_way.entry(function.name()).or_default() += 1;
        }
        Ok(Judgement {
            functions: table(self.map("TALLIES")?)?,
            nested: count(JudgeCount::Nested)?,
            left: count(JudgeCount::Left)?,
            unpaired: count(JudgeCount::Unpaired)?,
            own: count(JudgeCount::Own)?,
            full: count(JudgeCount::Full)?,
            under_way,
        })
    }
}

/// The kernel's bytes of an [`UnderWay`].
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Call(UnderWay);

// SAFETY: integers without padding; any bytes are a value.
unsafe impl aya::Pod for Call {}

/// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: i32 = 5;
const BPF_LINK_CREATE: i32 = 28;
const BPF_PROG_TYPE_KPROBE: u64 = 2;
const BPF_TRACE_UPROBE_SESSION: u64 = 57;

/// bpf(2) with an attribute of these words, which refer to memory that outlives the call.
fn bpf(command: i32, attribute: &[u64]) -> io::Result<OwnedFd> {
    // SAFETY: the length is the slice's; the commands used here make a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_ptr(), size_of_val(attribute)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn block_signals() -> Result<libc::sigset_t> {
    // SAFETY: the set is initialised before it is used; this is the only thread.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        ensure!(
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) == 0,
            "failed to block signals"
        );
        Ok(set)
    }
}

fn wait(signals: &libc::sigset_t) -> Result<()> {
    let mut signal = 0;
    // SAFETY: both are valid for the call.
    let failed = unsafe { libc::sigwait(signals, &raw mut signal) };
    ensure!(failed == 0, "failed to wait for a signal");
    Ok(())
}
