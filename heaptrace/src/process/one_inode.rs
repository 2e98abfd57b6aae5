//! Whether two files are one below. On overlayfs each mount (each container) gives a number of its own to a file of a layer
//! that many share, while the kernel puts breakpoints into the file of the layer: who asks for them by two names has two in one
//! place (`d_real_inode`, kernel/trace/trace_uprobe.c and bpf_trace.c). What lies below is told nowhere (maps and stat show
//! the mount's numbers, and which of them differs by kernel), but a file has one page cache: its pages are one page of memory,
//! whoever maps them.

use super::{
    object::Object,
    pagemap::{PAGE, PageMap},
};
use memmap2::{Mmap, MmapOptions};
use rustix::fs::fstatfs;
use std::{fs::File, process};

/// include/uapi/linux/magic.h
const OVERLAYFS: u64 = 0x794c_7630;

/// A page is moved at times, and then looked at again.
const LOOKS: usize = 4;

/// The first page of a file, mapped so that it stays in memory. It is not read: a file that its owner truncates would kill us.
struct FirstPage {
    page: Mmap,
}

impl FirstPage {
    fn of(file: &File) -> Option<Self> {
        // Shared, as the kernel gives private mappings the breakpoints of others. SAFETY: no byte of it is ever looked at.
        unsafe { MmapOptions::new().len(PAGE as usize).populate().map(file) }.ok().map(|page| Self { page })
    }

    /// Where in memory it is; `None` if it went, or if that is not told (it takes CAP_SYS_ADMIN).
    fn frame(&self, own: &PageMap) -> Option<u64> {
        let at = self.page.as_ptr() as u64;
        let mut frame = None;
        own.read(&(at..at + PAGE), |entry| frame = entry.frame()).ok()?;
        frame
    }
}

/// Whether `one` and `other`, which have different numbers, are one file below.
pub fn are_one_below(one: &Object, other: &Object) -> bool {
    let alike = one.stamp.size == other.stamp.size
        && one.stamp.modified == other.stamp.modified
        && one.elf.build_id == other.elf.build_id;
    alike && have_one_page(one.file(), other.file()).unwrap_or_else(|| is_stacked(one) || is_stacked(other))
}

fn have_one_page(one: &File, other: &File) -> Option<bool> {
    let own = PageMap::open(process::id()).ok()?;
    let (one, other) = (FirstPage::of(one)?, FirstPage::of(other)?);
    for _ in 0..LOOKS {
        let (first, second) = (one.frame(&own)?, other.frame(&own)?);
        if first == second {
            return Some(true);
        }
        if (one.frame(&own), other.frame(&own)) == (Some(first), Some(second)) {
            return Some(false);
        }
    }
    None
}

/// Whether a file's pages may be those of another file. Where memory does not tell, two alike in all else are taken for one:
/// processes that then lack breakpoints are seen and told of, and calls that were counted twice would not be.
fn is_stacked(object: &Object) -> bool {
    fstatfs(&**object.file()).is_ok_and(|of| of.f_type as u64 == OVERLAYFS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::test_elf::TestElf, process::object::Opened};
    use std::{fs, path::Path, time::SystemTime};

    fn file(path: &Path) -> Object {
        let file = fs::File::create(path).expect("a file");
        fs::write(path, TestElf::default().build()).expect("written");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
        object(path)
    }

    fn object(path: &Path) -> Object {
        Object::read(Opened::at(path).expect("opened")).expect("an ELF file")
    }

    #[test]
    fn copies_are_two_files_and_a_file_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("one");
        let (one, copy, again) = (file(&path), file(&folder.path().join("copy")), object(&path));
        let own = PageMap::open(process::id()).expect("our own");
        let told = FirstPage::of(one.file()).is_some_and(|page| page.frame(&own).is_some());
        assert_eq!(have_one_page(one.file(), again.file()), told.then_some(true));
        assert_eq!(have_one_page(one.file(), copy.file()), told.then_some(false));
        assert!(!is_stacked(&one) && !are_one_below(&one, &copy));
    }
}
