//! Where a command prints to, again and again while it runs: standard output or a file.

use anyhow::Context as _;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    ops::ControlFlow,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// See the module.
pub(super) struct Written {
    out: BufWriter<Box<dyn Write>>,
    name: String,
    /// A file that keeps its content until the first print.
    untouched: Option<Untouched>,
}

struct Untouched {
    file: File,
    /// Made for this only: gone again if nothing is printed.
    made: Option<PathBuf>,
}

impl Written {
    /// Opens `path`, which the first print empties, or standard output. A new file is its owner's only.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let (out, name, untouched): (Box<dyn Write>, String, _) = match path {
            None => (Box::new(io::stdout()), "standard output".to_owned(), None),
            Some(path) => {
                let failed = || format!("failed to open {} for writing", path.display());
                let mut options = OpenOptions::new();
                options.write(true).mode(0o600);
                let (file, made) = match options.clone().create_new(true).open(path) {
                    Ok(file) => (file, Some(path.to_owned())),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        (options.open(path).with_context(failed)?, None)
                    }
                    Err(error) => return Err(error).with_context(failed),
                };
                let same = file.try_clone().with_context(failed)?;
                (Box::new(same), path.display().to_string(), Some(Untouched { file, made }))
            }
        };
        Ok(Self { out: BufWriter::with_capacity(1 << 16, out), name, untouched })
    }

    /// Has `render` write one print, whole. Breaks if nobody reads any more, which is no failure.
    ///
    /// # Errors
    /// What writing fails with, with the name of the output.
    pub fn write(
        &mut self,
        render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<ControlFlow<()>> {
        if let Some(Untouched { file, made: _ }) = self.untouched.take()
            && file.metadata().is_ok_and(|metadata| metadata.is_file())
        {
            file.set_len(0).with_context(|| format!("failed to write to {}", self.name))?;
        }
        match render(&mut self.out).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(error).with_context(|| format!("failed to write to {}", self.name)),
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(Untouched { made: Some(path), .. }) = &self.untouched {
            // An empty file that stays does no harm.
            let _ = fs::remove_file(path);
        }
    }
}
