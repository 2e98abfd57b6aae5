//! Where a report goes: standard output, or a file that is known to be writable before the work begins.

use anyhow::{Context as _, bail};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// An opened output. A file that was there before keeps its content until [`Output::write`].
pub(super) enum Output {
    Stdout,
    File { path: PathBuf, file: File, created: bool },
}

impl Output {
    /// Opens `path`, or standard output; `input` is what must not be overwritten.
    pub fn open(path: Option<&Path>, input: &Path) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let created = !path.exists();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("failed to open {} for writing", path.display()))?;
        let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
        if let (Ok(ours), Ok(theirs)) = (file.metadata(), fs::metadata(input))
            && identity(ours) == identity(theirs)
        {
            bail!("failed to write the report: {} is the recording itself", path.display());
        }
        Ok(Self::File { path: path.into(), file, created })
    }

    /// Takes back a file that was only created to be written to, after a failure.
    pub fn discard(self) {
        if let Self::File { path, created: true, .. } = self {
            // Best effort: the failure that led here is what the user must read.
            let _ = fs::remove_file(path);
        }
    }

    /// Has `render` write all of the output. A reader that has seen enough is no failure.
    ///
    /// # Errors
    /// What writing fails with, with the name of the output.
    pub fn write(&self, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        let (result, name) = match self {
            Self::Stdout => (buffered(io::stdout().lock(), render), "standard output".to_owned()),
            Self::File { path, file, .. } => {
                // Pipes and devices have no length to cut.
                let cut = match file.metadata() {
                    Ok(meta) if meta.is_file() => file.set_len(0),
                    _ => Ok(()),
                };
                (cut.and_then(|()| buffered(file, render)), path.display().to_string())
            }
        };
        match result {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.with_context(|| format!("failed to write the report to {name}")),
        }
    }
}

fn buffered(out: impl Write, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    render(&mut out)?;
    out.flush()
}
