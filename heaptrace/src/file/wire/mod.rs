//! How the contents of blocks are written and read: a layout for each of the model's types, apart from the types. Adding
//! to a type of the model breaks the build here and changes no file; whoever mends it decides what is written.
//!
//! Values are as in postcard: numbers are varints of seven bits a byte (LEB128), signed ones zigzag before; a byte and a
//! truth value are a byte; texts and lists have their length before them; an optional value has 0 or 1 before it, and a
//! choice its number. A *record* is its values one after the other. Since format 7 its length in bytes is before it, so that
//! values may be appended to it: who does not know them skips them. Lists, pairs, identifiers and histograms are none.

mod blocks;
mod coverage;
mod reader;
mod records;
mod writer;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use blocks::whole;
pub(super) use reader::{Bad, Reader};
pub(super) use writer::Writer;

use super::version::Version;

/// A value that recordings hold.
pub(super) trait Wire: Sized {
    fn write(&self, to: &mut Writer);

    /// # Errors
    /// [`Bad`] where the bytes are no such value, or it takes more memory than there is.
    fn read(from: &mut Reader<'_>) -> Result<Self, Bad>;
}

/// All of `value`, as the content of a block.
pub(super) fn content(version: Version, value: &impl Wire) -> Vec<u8> {
    let mut writer = Writer::new(version);
    value.write(&mut writer);
    writer.into_content()
}

/// The values of a record.
trait Values: Sized {
    fn write_values(&self, to: &mut Writer);

    fn read_values(from: &mut Reader<'_>) -> Result<Self, Bad>;
}

/// Which they are, in order. What a minor version appends is `later`, and [`Default`] where an earlier one has written;
/// nothing is ever taken away, moved, or given another type within a major version.
macro_rules! values {
    ($type:ident { $($field:ident: $kind:ty),* $(,)? } $(later { $($new:ident: $new_kind:ty),* $(,)? })?) => {
        impl $crate::file::wire::Values for $type {
            fn write_values(&self, to: &mut $crate::file::wire::Writer) {
                let Self { $($field,)* $($($new,)*)? } = self;
                $(<$kind as $crate::file::wire::Wire>::write($field, to);)*
                // Before records had lengths nothing could be appended.
                $(if to.version().is_framed() {
                    $(<$new_kind as $crate::file::wire::Wire>::write($new, to);)*
                })?
            }

            fn read_values(
                from: &mut $crate::file::wire::Reader<'_>,
            ) -> Result<Self, $crate::file::wire::Bad> {
                Ok(Self {
                    $($field: <$kind as $crate::file::wire::Wire>::read(from)?,)*
                    $($($new: if from.has_more() {
                        <$new_kind as $crate::file::wire::Wire>::read(from)?
                    } else {
                        <$new_kind>::default()
                    },)*)?
                })
            }
        }
    };
}
use values;

/// A type that is a record and no more, with its values.
macro_rules! record {
    // A type that is for the file alone.
    (
        $(#[$meta:meta])* struct $type:ident { $($field:ident: $kind:ty),* $(,)? }
        $(, later { $($new:ident: $new_kind:ty),* $(,)? })? $(,)?
    ) => {
        $(#[$meta])*
        #[derive(Default)]
        struct $type { $($field: $kind,)* $($($new: $new_kind),*)? }
        record!($type { $($field: $kind),* } $(later { $($new: $new_kind),* })?);
    };
    ($type:ident $($values:tt)*) => {
        $crate::file::wire::values!($type $($values)*);

        impl $crate::file::wire::Wire for $type {
            fn write(&self, to: &mut $crate::file::wire::Writer) {
                to.record(|to| $crate::file::wire::Values::write_values(self, to));
            }

            fn read(from: &mut $crate::file::wire::Reader<'_>) -> Result<Self, $crate::file::wire::Bad> {
                from.record($crate::file::wire::Values::read_values)
            }
        }
    };
}
use record;
