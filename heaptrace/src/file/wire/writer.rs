//! Writes values.

use crate::file::version::Version;

/// The content of a block as it becomes.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    version: Version,
}

impl Writer {
    pub fn new(version: Version) -> Self {
        Self { bytes: Vec::new(), version }
    }

    pub fn into_content(self) -> Vec<u8> {
        self.bytes
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub fn number(&mut self, number: u64) {
        let (bytes, length) = varint(number);
        self.bytes.extend_from_slice(&bytes[..length]);
    }

    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// What `values` writes, as one record.
    pub fn record(&mut self, values: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        values(self);
        if self.version.is_framed() {
            let (bytes, length) = varint((self.bytes.len() - start) as u64);
            self.bytes.splice(start..start, bytes.into_iter().take(length));
        }
    }
}

/// The bytes of a varint, and how many they are.
fn varint(mut number: u64) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    let mut length = 0;
    loop {
        bytes[length] = number as u8 & 0x7f;
        number >>= 7;
        length += 1;
        if number == 0 {
            return (bytes, length);
        }
        bytes[length - 1] |= 0x80;
    }
}
