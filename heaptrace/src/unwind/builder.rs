//! From an opened file, or the running kernel's vDSO, to its table, through the cache where there is one.

use super::cache::Cache;
use super::table::{FileTable, RowKind, TableError};
use crate::process::maps;
use crate::process::object::Object;
use crate::process::system;
use std::{collections::BTreeSet, io};

/// A file's code stays without a table: it is walked by frame pointers.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("no unwind table for {file}")]
    Table { file: String, source: TableError },
    #[error("no unwind table for {file}")]
    Unread { file: String, source: io::Error },
    #[error("failed to read the vDSO of this process")]
    Vdso(#[source] io::Error),
}

/// The largest vDSO that is read, in bytes; it has two pages.
const MAX_VDSO: u64 = 1 << 20;

/// Makes the table of a file, or takes it from `cache`. Reads, never maps; needs some 50 MiB of memory for
/// LLVM's library, and at most 500 MiB for whatever is in the file.
///
/// `begins`: addresses of instructions at which stacks begin, beside calls. They are to be the same each time for a file.
pub fn build(
    object: &Object,
    kind: RowKind,
    cache: Option<&Cache>,
    begins: impl FnOnce(&Object) -> BTreeSet<u64>,
) -> Result<FileTable, BuildError> {
    if let Some(table) = cache.and_then(|cache| cache.load(object, kind)) {
        return Ok(table);
    }
    let table = FileTable::with_begins(object.file().as_ref(), kind, &begins(object))
        .map_err(|source| BuildError::Table { file: object.path.display().to_string(), source })?;
    if let Some(cache) = cache {
        // Nothing is lost but time: it will be built again.
        let _ = cache.save(object, kind, &table);
    }
    Ok(table)
}

/// Makes the table of the vDSO, which the kernel maps into every process and no file holds.
pub fn build_vdso(kind: RowKind) -> Result<FileTable, BuildError> {
    let image = read_vdso().map_err(BuildError::Vdso)?;
    FileTable::of(&image.as_slice(), kind)
        .map_err(|source| BuildError::Table { file: String::from("[vdso]"), source })
}

fn read_vdso() -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let mappings = maps::parse(&system::read("/proc/self/maps")?);
    let vdso = mappings
        .iter()
        .find(|mapping| mapping.path.as_deref().is_some_and(|path| path.as_os_str() == "[vdso]"))
        .ok_or(io::ErrorKind::NotFound)?;
    let mut image = vec![0; (vdso.end - vdso.start).min(MAX_VDSO) as usize];
    system::open("/proc/self/mem")?.read_exact_at(&mut image, vdso.start)?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::object::Opened;
    use heaptrace_common::unwind::{PAGE_BITS, Rule};
    use std::{fs::File, path::Path};

    #[test]
    fn the_vdso_has_a_table_of_rules_by_which_it_can_be_left() {
        let table = build_vdso(RowKind::Calls).unwrap();
        let stats = table.stats();
        assert!(stats.frames.fdes > 0 && stats.raw_rows > 0, "{stats:?}");
        assert!(table.rules().contains(&Rule::new(
            heaptrace_common::unwind::CfaKind::Rsp,
            heaptrace_common::unwind::FpKind::Same,
            0,
            8,
            0
        )));
    }

    #[test]
    fn a_built_table_comes_from_the_cache_the_second_time() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("tables"), 1 << 20).unwrap();
        let object = Object::read(Opened::at(Path::new("/lib/x86_64-linux-gnu/libc.so.6")).unwrap()).unwrap();
        for kind in [RowKind::Calls, RowKind::Exact] {
            let built = build(&object, kind, Some(&cache), |_| BTreeSet::new()).unwrap();
            assert_eq!(cache.load(&object, kind), Some(built.clone()));
            // It is not made again.
            let again = build(&object, kind, Some(&cache), |_| unreachable!());
            assert_eq!(again.unwrap(), built);
        }
    }

    #[test]
    fn an_address_outside_the_code_has_no_rule() {
        let table = FileTable::of(&File::open("/proc/self/exe").unwrap(), RowKind::Calls).unwrap();
        let first = u64::from(table.first_page()) << PAGE_BITS;
        let past = first + ((table.pages().len() as u64) << PAGE_BITS);
        for outside in [0, first - 1, past, u64::MAX] {
            assert_eq!(table.lookup(outside), Rule::NONE);
        }
    }
}
