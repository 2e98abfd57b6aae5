//! Messages within messages, written without having them in memory: how long each is stands before it, so that it is measured
//! first.

use opentelemetry_proto::tonic::profiles::v1development::Sample;
use prost::{Message, encode_length_delimiter, length_delimiter_len};
use std::io::{self, Write};

/// Hands out samples, the same each time.
type Samples<'s> = Box<dyn Fn(&mut dyn FnMut(&Sample) -> io::Result<()>) -> io::Result<()> + 's>;

/// A field with a message: what it has beside its parts, then these.
pub struct Part<'s> {
    field: u32,
    beside: Vec<u8>,
    inner: Inner<'s>,
    /// Bytes of the message.
    length: usize,
}

enum Inner<'s> {
    Parts(Vec<Part<'s>>),
    Samples(u32, Samples<'s>),
}

impl<'s> Part<'s> {
    pub fn of_parts(field: u32, beside: &impl Message, parts: Vec<Self>) -> Self {
        let beside = beside.encode_to_vec();
        let length =
            beside.len() + parts.iter().map(|part| delimited(part.field, part.length)).sum::<usize>();
        Self { field, beside, inner: Inner::Parts(parts), length }
    }

    pub fn of_samples(field: u32, beside: &impl Message, samples_field: u32, samples: Samples<'s>) -> Self {
        let beside = beside.encode_to_vec();
        let mut length = beside.len();
        // Nothing is written, and so nothing fails.
        let _ = samples(&mut |sample| {
            length += delimited(samples_field, sample.encoded_len());
            Ok(())
        });
        Self { field, beside, inner: Inner::Samples(samples_field, samples), length }
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        begin(self.field, self.length, out)?;
        out.write_all(&self.beside)?;
        match &self.inner {
            Inner::Parts(parts) => parts.iter().try_for_each(|part| part.write(out)),
            Inner::Samples(field, samples) => samples(&mut |sample| write(*field, sample, out)),
        }
    }
}

/// Writes a message whole, as a field.
pub fn write(field: u32, message: &impl Message, out: &mut dyn Write) -> io::Result<()> {
    begin(field, message.encoded_len(), out)?;
    out.write_all(&message.encode_to_vec())
}

fn begin(field: u32, length: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut head = Vec::with_capacity(16);
    encode_length_delimiter(key(field), &mut head)?;
    encode_length_delimiter(length, &mut head)?;
    out.write_all(&head)
}

/// Bytes of a field with a message of so many.
fn delimited(field: u32, length: usize) -> usize {
    length_delimiter_len(key(field)) + length_delimiter_len(length) + length
}

/// A field that has its length before it.
fn key(field: u32) -> usize {
    (field as usize) << 3 | 2
}
