//! The signals that end a command well: Ctrl-C, SIGTERM, and what a terminal sends as it closes or on Ctrl-\.

use crate::session::monotonic_ns;
use std::{
    io, ptr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::Poll,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is sent from a keyboard: once to end, and once more to leave at once.
const KEYS: [SignalKind; 2] = [SignalKind::interrupt(), SignalKind::quit()];

/// See the module. Those that come before anybody waits are kept.
pub(super) struct Signals {
    caught: Vec<Signal>,
    keys: Vec<SignalKind>,
}

impl Signals {
    /// Within a runtime.
    pub fn catch() -> io::Result<Self> {
        let always = [SignalKind::interrupt(), SignalKind::terminate()];
        // nohup(1) has us ignore the one, a shell that starts us in the background the other.
        let unless_ignored = [SignalKind::hangup(), SignalKind::quit()];
        let kinds: Vec<SignalKind> =
            always.into_iter().chain(unless_ignored.into_iter().filter(|kind| !is_ignored(*kind))).collect();
        let caught = kinds.iter().map(|kind| signal(*kind)).collect::<Result<_, _>>()?;
        Ok(Self { caught, keys: kinds.into_iter().filter(|kind| KEYS.contains(kind)).collect() })
    }

    /// Once one of them has come.
    pub async fn come(&mut self) {
        std::future::poll_fn(|context| {
            match self.caught.iter_mut().any(|signal| signal.poll_recv(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// From here on a key leaves at once; but for the first one, if `pass_one`, which then does nothing, and those of the next
    /// second: timeout(1) sends one to its command, and another to its group.
    pub fn let_keys_end(self, pass_one: bool) -> io::Result<()> {
        const SOON_NS: u64 = 1_000_000_000;
        PASS_ONE.store(pass_one, Ordering::Relaxed);
        PASS_UNTIL.store(monotonic_ns() + SOON_NS, Ordering::Relaxed);
        for key in self.keys {
            // SAFETY: all of the structure may be zero; the handler does what one may.
            let status = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = leave as extern "C" fn(libc::c_int) as usize;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(key.as_raw_value(), &raw const action, ptr::null_mut())
            };
            if status != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

static PASS_ONE: AtomicBool = AtomicBool::new(false);
static PASS_UNTIL: AtomicU64 = AtomicU64::new(0);

extern "C" fn leave(signal: libc::c_int) {
    if PASS_ONE.swap(false, Ordering::Relaxed) || monotonic_ns() < PASS_UNTIL.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: both may be called here (signal-safety(7)); it is delivered once this has returned.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

fn is_ignored(kind: SignalKind) -> bool {
    // SAFETY: all of the structure may be zero; only asks.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(kind.as_raw_value(), ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
