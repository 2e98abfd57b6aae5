//! A message in gzip, written in parts: what is encoded one after the other is one message to who decodes it.

use super::proto::Profile;
use flate2::{Compression, write::GzEncoder};
use prost::Message as _;
use std::io::{self, Write};

/// The message so far.
pub struct Messages<'o> {
    out: GzEncoder<&'o mut dyn Write>,
    encoded: Vec<u8>,
}

impl<'o> Messages<'o> {
    pub fn new(out: &'o mut dyn Write) -> Self {
        Self { out: GzEncoder::new(out, Compression::default()), encoded: Vec::new() }
    }

    /// Adds what `part` has.
    pub fn put(&mut self, part: &Profile) -> io::Result<()> {
        self.encoded.clear();
        part.encode(&mut self.encoded)?;
        self.out.write_all(&self.encoded)
    }

    pub fn end(self) -> io::Result<()> {
        self.out.finish().map(drop)
    }
}
