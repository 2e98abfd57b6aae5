//! Unwind tables on the host's side: from `.eh_frame` to rows, which of them to keep, and where in the BPF maps
//! they lie. Pure but for reading files; `docs/unwinding.md` tells the whole of it.

pub mod builder;
pub mod cache;
pub mod callsites;
pub mod ehframe;
pub mod image;
pub mod locate;
pub mod rule;
mod space;
pub mod store;
pub mod table;

pub use builder::{BuildError, build, build_vdso};
pub use cache::Cache;
pub use ehframe::RawRow;
pub use store::{FileKey, Store, TableKey};
pub use table::{FileTable, RowKind};
