//! Reads values. Contents are hostile: an element of a byte may become a struct of hundreds, so what is read is counted
//! element by element, before it is made.

use crate::file::{skipped::Count, version::Version};
use crate::model::PIECE;

/// So many bytes of a list get room at once; a longer one grows, and is there twice when it is moved.
const AT_ONCE: usize = 1 << 20;

/// Why something is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("it ends inside a value")]
    Ends,
    #[error("a number is too large")]
    Number,
    #[error("a text is not UTF-8")]
    Text,
    #[error("there is no {what} {number}")]
    Choice { what: &'static str, number: u64 },
    #[error("{0} bytes too many")]
    Rest(usize),
    /// More than may be taken.
    #[error("it takes too much memory")]
    Memory,
}

/// The content of a block that is being read.
#[derive(Debug)]
pub struct Reader<'c> {
    /// Of the content, or of the record that is being read.
    rest: &'c [u8],
    version: Version,
    /// Bytes of memory that may still be taken.
    memory: u64,
    /// Records with values behind those that are known.
    skipped: Count,
}

impl<'c> Reader<'c> {
    pub fn new(content: &'c [u8], version: Version, memory: u64) -> Self {
        Self { rest: content, version, memory, skipped: Count::default() }
    }

    /// What records had behind what is known of them.
    ///
    /// # Errors
    /// [`Bad::Rest`] if not all of the content was read.
    pub fn finish(self) -> Result<Count, Bad> {
        if self.rest.is_empty() { Ok(self.skipped) } else { Err(Bad::Rest(self.rest.len())) }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Says which minor version the rest is of.
    pub fn set_minor(&mut self, minor: u32) {
        self.version.minor = minor;
    }

    pub fn byte(&mut self) -> Result<u8, Bad> {
        let (byte, rest) = self.rest.split_first().ok_or(Bad::Ends)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub fn number(&mut self) -> Result<u64, Bad> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Bad::Number)
    }

    pub fn text(&mut self) -> Result<String, Bad> {
        let length = self.number()?;
        let bytes = self.bytes(length)?;
        let text = str::from_utf8(bytes).map_err(|_| Bad::Text)?;
        self.take(text.len() + PIECE as usize)?;
        Ok(text.to_owned())
    }

    /// A list each of whose elements `read` makes, given its place.
    pub fn list_of<T>(&mut self, read: impl Fn(u32, &mut Self) -> Result<T, Bad>) -> Result<Vec<T>, Bad> {
        let count = u32::try_from(self.number()?).map_err(|_| Bad::Number)?;
        self.take(PIECE as usize)?;
        let size = size_of::<T>().max(1);
        let mut list = Vec::with_capacity((count as usize).min(AT_ONCE / size).min(self.rest.len()));
        for index in 0..count {
            let taken = (index as usize + 1) * size;
            self.take(if taken > AT_ONCE { 2 * size } else { size })?;
            list.push(read(index, self)?);
        }
        Ok(list)
    }

    /// What `values` reads, as one record. What is behind that in it is skipped, if it may be there.
    pub fn record<T>(&mut self, values: impl FnOnce(&mut Self) -> Result<T, Bad>) -> Result<T, Bad> {
        if !self.version.is_framed() {
            return values(self);
        }
        let length = self.number()?;
        let record = self.bytes(length)?;
        let behind = std::mem::replace(&mut self.rest, record);
        let value = values(self)?;
        let unknown = std::mem::replace(&mut self.rest, behind).len();
        if unknown > 0 {
            if !self.version.has_unknown() {
                return Err(Bad::Rest(unknown));
            }
            self.skipped.add(unknown as u64);
        }
        Ok(value)
    }

    /// Whether the record that is being read has more: a value that a later minor version has appended.
    pub fn has_more(&self) -> bool {
        self.version.is_framed() && !self.rest.is_empty()
    }

    fn bytes(&mut self, length: u64) -> Result<&'c [u8], Bad> {
        let length = usize::try_from(length).map_err(|_| Bad::Ends)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Bad::Ends)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn take(&mut self, bytes: usize) -> Result<(), Bad> {
        self.memory = self.memory.checked_sub(bytes as u64).ok_or(Bad::Memory)?;
        Ok(())
    }
}
