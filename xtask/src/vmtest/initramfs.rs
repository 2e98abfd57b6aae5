//! The guest's file system: an uncompressed cpio archive in the "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_777;

/// An archive that is being written. Directories on the way to a file are made as they are needed.
pub struct Initramfs {
    out: BufWriter<File>,
    /// Paths that are in it; one that is added again is left out.
    there: BTreeSet<PathBuf>,
    inode: u32,
}

impl Initramfs {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("failed to create {}", path.display()))?;
        Ok(Self { out: BufWriter::new(file), there: BTreeSet::new(), inode: 0 })
    }

    /// An empty directory.
    pub fn directory(&mut self, path: &Path) -> Result<()> {
        let mut at = PathBuf::from("/");
        for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
            at.push(part);
            if self.there.insert(at.clone()) {
                self.entry(&at, DIRECTORY, &[])?;
            }
        }
        Ok(())
    }

    /// A file of the given content.
    pub fn bytes(&mut self, path: &Path, content: &[u8], executable: bool) -> Result<()> {
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        ensure!(self.there.insert(path.to_owned()), "{} is in the archive twice", path.display());
        self.entry(path, REGULAR | if executable { 0o755 } else { 0o644 }, content)
    }

    /// The host's file `path` at the same place, and each symbolic link on the way to it.
    pub fn same(&mut self, path: &Path) -> Result<()> {
        let fail = || format!("failed to read {}", path.display());
        let mut at = PathBuf::from("/");
        let mut rest: Vec<PathBuf> = path.components().rev().map(|part| part.as_os_str().into()).collect();
        while let Some(part) = rest.pop() {
            if part == Path::new("/") {
                at = part;
                continue;
            }
            if part == Path::new("..") {
                at.pop();
                continue;
            }
            at.push(part);
            let metadata = fs::symlink_metadata(&at).with_context(fail)?;
            if metadata.is_symlink() {
                let target = fs::read_link(&at).with_context(fail)?;
                if self.there.insert(at.clone()) {
                    self.entry(&at, SYMLINK, target.as_os_str().as_bytes())?;
                }
                at.pop();
                rest.extend(target.components().rev().map(|part| PathBuf::from(part.as_os_str())));
            } else if metadata.is_dir() {
                self.directory(&at)?;
            } else if !self.there.contains(&at) {
                let content = fs::read(&at).with_context(fail)?;
                self.bytes(&at, &content, metadata.permissions().mode() & 0o111 != 0)?;
            }
        }
        Ok(())
    }

    /// Writes the archive's end.
    pub fn finish(mut self) -> Result<()> {
        self.record("TRAILER!!!", 0, &[])?;
        self.out.flush().context("failed to write the initramfs")
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        let name = path.strip_prefix("/").unwrap_or(path).to_str().context("a path is not UTF-8")?.to_owned();
        self.record(&name, mode, content)
    }

    fn record(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).context("a file is too large for the initramfs")?;
        // Inode, mode, user, group, links, time, size, four device numbers, length of the name, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.padded(&[header.as_bytes(), name.as_bytes(), b"\0"])?;
        self.padded(&[content])
    }

    /// Writes `parts`, and zeroes up to a multiple of 4 bytes.
    fn padded(&mut self, parts: &[&[u8]]) -> Result<()> {
        let mut written = 0;
        for part in parts {
            self.out.write_all(part).context("failed to write the initramfs")?;
            written += part.len();
        }
        let padding = written.next_multiple_of(4) - written;
        self.out.write_all(&[0; 3][..padding]).context("failed to write the initramfs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_aligned_and_the_archive_ends() {
        let path = std::env::temp_dir().join(format!("heaptrace-initramfs-{}", std::process::id()));
        let mut archive = Initramfs::create(&path).unwrap();
        archive.bytes(Path::new("/a/b"), b"12345", true).unwrap();
        assert!(archive.bytes(Path::new("/a/b"), b"", true).is_err());
        archive.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let names: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"070701")).collect();
        assert_eq!(names.len(), 4 - 1, "a, a/b and the end");
        assert!(names.iter().all(|at| at % 4 == 0));
        assert!(bytes[names[1]..].starts_with(b"0707010000000200081"[..14].as_ref()));
    }

    #[test]
    fn links_on_the_way_to_a_file_are_kept() {
        let folder = std::env::temp_dir().join(format!("heaptrace-initramfs-links-{}", std::process::id()));
        fs::create_dir_all(folder.join("real")).unwrap();
        fs::write(folder.join("real/file"), "content").unwrap();
        let _ = fs::remove_file(folder.join("link"));
        std::os::unix::fs::symlink("real", folder.join("link")).unwrap();
        let mut archive = Initramfs::create(&folder.join("archive")).unwrap();
        archive.same(&folder.join("link/file")).unwrap();
        let there = archive.there.clone();
        fs::remove_dir_all(&folder).unwrap();
        assert!(there.contains(&folder.join("link")) && there.contains(&folder.join("real/file")));
        assert!(!there.contains(&folder.join("link/file")));
    }
}
