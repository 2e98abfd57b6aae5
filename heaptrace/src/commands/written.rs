//! Where a command prints to, again and again while it runs: standard output or a file.

use anyhow::Context as _;
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    ops::ControlFlow,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// See the module.
pub(super) struct Written {
    out: BufWriter<Box<dyn Write>>,
    name: String,
}

impl Written {
    /// Opens `path`, which is emptied, or standard output.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let (out, name): (Box<dyn Write>, String) = match path {
            None => (Box::new(io::stdout()), "standard output".to_owned()),
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("failed to open {} for writing", path.display()))?;
                (Box::new(file), path.display().to_string())
            }
        };
        Ok(Self { out: BufWriter::with_capacity(1 << 16, out), name })
    }

    /// Has `render` write one print, whole. Breaks if nobody reads any more, which is no failure.
    ///
    /// # Errors
    /// What writing fails with, with the name of the output.
    pub fn write(
        &mut self,
        render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<ControlFlow<()>> {
        match render(&mut self.out).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(error).with_context(|| format!("failed to write to {}", self.name)),
        }
    }
}

/// Now, in nanoseconds since the Unix epoch.
pub(super) fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64
}
