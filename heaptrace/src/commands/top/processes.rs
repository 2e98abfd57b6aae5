//! Every process of the machine as `/proc` has it, read again at each refresh: but ourselves, who grow by what we look at.

use crate::{
    process::{
        apart,
        procfs::{self, Identity},
        stat::Stat,
        system::MemoryInfo,
    },
    target::{Target, user_name},
    top::{About, Memory, Seen},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// What changes rarely is read again after so many refreshes: users by setuid, cgroups by whoever moves processes,
/// arguments by those who write to their own.
const LOOK_AGAIN: u64 = 10;

/// See the module.
pub struct Processes {
    known: HashMap<Identity, Known>,
    users: HashMap<u32, String>,
    /// Of those who were named, and their children, also once their parents are gone.
    family: HashSet<Identity>,
    round: u64,
    page_size: u64,
}

struct Known {
    about: Arc<About>,
    read: u64,
}

/// One refresh.
pub struct Read {
    pub memory: Memory,
    pub seen: Vec<Seen>,
    pub kernel_threads: usize,
    /// That could not be read, though they are there.
    pub closed: usize,
}

impl Processes {
    pub fn new() -> Self {
        Self {
            known: HashMap::new(),
            users: HashMap::new(),
            family: HashSet::new(),
            round: 0,
            page_size: procfs::page_size(),
        }
    }

    /// Reads them all, and gives those of `target`.
    ///
    /// # Errors
    /// If `/proc` itself cannot be read, or the cgroup is gone.
    pub fn read(&mut self, target: &Target) -> anyhow::Result<Read> {
        self.round += 1;
        let mut read = Read { memory: memory(), seen: Vec::new(), kernel_threads: 0, closed: 0 };
        let own = std::process::id();
        for pid in procfs::all_pids()?.into_iter().filter(|pid| *pid != own) {
            match self.look_at(pid) {
                Ok(Some(seen)) => read.seen.push(seen),
                Ok(None) => read.kernel_threads += 1,
                Err(error) if error.is_gone() => {}
                Err(_) => read.closed += 1,
            }
        }
        let there: HashSet<Identity> = read.seen.iter().map(|seen| seen.identity).collect();
        self.known.retain(|identity, _| there.contains(identity));
        self.choose(target, &mut read.seen)?;
        Ok(read)
    }

    /// `None` for what has no memory of its own: a kernel thread, a zombie, a child that makes a call for us.
    fn look_at(&mut self, pid: u32) -> Result<Option<Seen>, procfs::ProcError> {
        let stat = procfs::read_stat(pid)?;
        let statm = procfs::read_statm(pid)?;
        if statm.size == 0 || apart::is_child(stat.parent_pid, &stat.comm) {
            return Ok(None);
        }
        let about = self.about(&stat)?;
        let Stat { parent_pid, faults, cpu_ticks, start_time, .. } = stat;
        Ok(Some(Seen {
            identity: Identity { pid, start_time },
            parent: parent_pid,
            about,
            virt: statm.size.saturating_mul(self.page_size),
            res: statm.resident.saturating_mul(self.page_size),
            heap: statm.anonymous().saturating_mul(self.page_size),
            faults,
            cpu_ns: procfs::ticks_ns(cpu_ticks),
        }))
    }

    fn about(&mut self, stat: &Stat) -> Result<Arc<About>, procfs::ProcError> {
        let identity = Identity { pid: stat.pid, start_time: stat.start_time };
        if let Some(known) = self.known.get(&identity)
            && known.about.comm == stat.comm
            && self.round - known.read < LOOK_AGAIN
        {
            return Ok(Arc::clone(&known.about));
        }
        let uid = procfs::read_status(stat.pid)?.effective_uid;
        let user = self.users.entry(uid).or_insert_with(|| user_name(uid).unwrap_or_else(|| uid.to_string()));
        let about = Arc::new(About {
            uid,
            user: user.clone(),
            comm: stat.comm.clone(),
            // Closed or gone: the name has to do.
            command: procfs::command_line(stat.pid).unwrap_or_default(),
            cgroup: procfs::cgroup(stat.pid).ok().flatten().unwrap_or_default(),
        });
        // Not all at the same refresh.
        let read = self.round.saturating_sub(u64::from(stat.pid) % LOOK_AGAIN);
        self.known.insert(identity, Known { about: Arc::clone(&about), read });
        Ok(about)
    }

    fn choose(&mut self, target: &Target, seen: &mut Vec<Seen>) -> anyhow::Result<()> {
        match target {
            Target::All | Target::Command(_) => {}
            Target::Comm(comm) => seen.retain(|seen| seen.about.comm == *comm),
            Target::User { id, .. } => seen.retain(|seen| seen.about.uid == *id),
            Target::Cgroup(cgroup) => {
                let pids: HashSet<u32> = cgroup.pids()?.into_iter().collect();
                seen.retain(|seen| pids.contains(&seen.identity.pid));
            }
            Target::Pids(pids) | Target::Tree(pids) => {
                if self.round == 1 {
                    let named = seen.iter().filter(|seen| pids.contains(&seen.identity.pid));
                    self.family.extend(named.map(|seen| seen.identity));
                }
                self.keep_family(seen);
            }
        }
        Ok(())
    }

    fn keep_family(&mut self, seen: &mut Vec<Seen>) {
        let mut pids: HashSet<u32> = HashSet::new();
        self.family.retain(|identity| seen.iter().any(|seen| seen.identity == *identity));
        pids.extend(self.family.iter().map(|identity| identity.pid));
        // A child can have a smaller PID than its parent.
        loop {
            let before = pids.len();
            for seen in seen.iter().filter(|seen| pids.contains(&seen.parent)).collect::<Vec<_>>() {
                pids.insert(seen.identity.pid);
            }
            if pids.len() == before {
                break;
            }
        }
        seen.retain(|seen| pids.contains(&seen.identity.pid));
        self.family.extend(seen.iter().map(|seen| seen.identity));
    }
}

/// `/proc/meminfo`; zeros for what it does not say.
fn memory() -> Memory {
    let info = MemoryInfo::read();
    let field = |name: &str| info.as_ref().and_then(|info| info.bytes(name)).unwrap_or(0);
    Memory {
        total: field("MemTotal"),
        available: field("MemAvailable"),
        swap_total: field("SwapTotal"),
        swap_free: field("SwapFree"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        process::{Command, Stdio},
    };

    #[test]
    fn others_are_there_with_their_memory_and_we_are_not() {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat");
        let (mut input, mut output) =
            (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        // An echo comes from a program that runs.
        input.write_all(b"x").expect("write");
        output.read_exact(&mut [0]).expect("echo");
        let mut processes = Processes::new();
        let read = processes.read(&Target::All).expect("/proc");
        let of = |pid| read.seen.iter().find(|seen| seen.identity.pid == pid);
        let cat = of(child.id()).expect("the child");
        assert!(cat.heap > 0 && cat.res >= cat.heap && cat.virt >= cat.res && cat.faults > 0);
        assert_eq!((cat.about.command.as_str(), cat.about.comm.as_str()), ("cat", "cat"));
        assert!(of(std::process::id()).is_none());
        assert!(read.memory.total > read.memory.available);
        drop(input);
        child.wait().expect("its end");
    }

    #[test]
    fn who_is_named_is_shown_with_children_and_nobody_else() {
        let mut shell = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().expect("sh");
        let mut processes = Processes::new();
        let target = Target::Pids(vec![shell.id()]);
        let commands = |read: &Read| read.seen.iter().map(|seen| seen.about.comm.clone()).collect::<Vec<_>>();
        // The shell forks, and its child execs.
        let seen = loop {
            let seen = commands(&processes.read(&target).expect("/proc"));
            if seen.iter().any(|comm| comm == "sleep") {
                break seen;
            }
            assert!(shell.try_wait().expect("a child").is_none(), "it ended before anybody saw its child");
        };
        assert_eq!(seen.len(), 2, "{seen:?}");
        shell.kill().expect("kill");
        shell.wait().expect("wait");
        // The child lives on, with another parent.
        let read = processes.read(&target).expect("/proc");
        assert_eq!(commands(&read), ["sleep"]);
        let sleep = read.seen[0].identity.pid;
        // SAFETY: no pointers; the process is of this test.
        unsafe { libc::kill(sleep as i32, libc::SIGKILL) };
    }
}
