//! What heaptrace and its symbolizing child say to each other over their socket: a question, with the descriptors of
//! the files that it is about, and one answer. Neither side trusts the other's lengths.

use crate::model::{BuildId, Symbol};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, send, sendmsg,
    },
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, SeqAccess, Visitor},
};
use std::{
    fmt,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    time::Instant,
};

/// The most places that one question asks for: answers stay small, and a file's names come piece by piece.
pub const MAX_PLACES: usize = 512;

/// The most bytes of names and paths in one answer.
pub const MAX_NAME_BYTES: usize = 8 << 20;

/// The most bytes of a message: an answer's names, and what there is beside them.
const MAX_MESSAGE: usize = 16 << 20;

/// The most functions at one place, as recordings are read: one, and what was inlined into it.
pub const MAX_SYMBOLS: usize = 256;

/// The most files of one question: a binary and its debug file.
const MAX_FILES: usize = 2;

/// What the child may use.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory of its own; mapped files are not in it.
    pub memory: u64,
    /// Seconds of CPU time in its whole life.
    pub cpu: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Question {
    /// The first one: from here on, no files can be opened.
    Begin(Limits),
    /// What the file says of itself.
    Facts,
    /// The CRC of the file, as `.gnu_debuglink` has it.
    Checksum,
    /// The following questions are about this ELF file, and its debug file where a second descriptor came along.
    Elf(Depth),
    /// The following questions are about this perf map.
    PerfMap,
    /// Names at file offsets, or at addresses of generated code; of calls, not of return addresses.
    Names(Vec<u64>),
}

/// How much of an ELF file is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// Symbol tables and DWARF.
    Full,
    /// Symbol tables only.
    Tables,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Ready,
    /// Why the question cannot be answered.
    Refused(String),
    Facts(Option<Facts>),
    Checksum(u32),
    /// As many lists as places were asked for. `cut`: some were left out, as they were too long.
    Names {
        #[serde(with = "names")]
        symbols: Vec<Vec<Symbol>>,
        cut: bool,
    },
}

/// What an ELF file says of itself and its debug file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    #[serde(with = "build_id")]
    pub build_id: Option<BuildId>,
    /// `.gnu_debuglink`: the name, which is anything, and the file's CRC.
    pub link: Option<(Vec<u8>, u32)>,
    /// It has a `.gnu_debugaltlink` or `.debug_sup`.
    pub has_supplement: bool,
}

/// Lists that are no longer than any answer has: an empty one is a byte of a message, and 24 of memory.
mod names {
    use super::{AtMost, MAX_PLACES, MAX_SYMBOLS, Symbol};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// How a symbol is sent.
    #[derive(Serialize, Deserialize)]
    #[serde(remote = "Symbol")]
    struct Layout {
        name: String,
        file: Option<String>,
        line: Option<u32>,
        inlined: bool,
    }

    #[derive(Serialize)]
    struct Sent<'a>(#[serde(serialize_with = "Layout::serialize")] &'a Symbol);

    #[derive(Deserialize)]
    struct Received(#[serde(with = "Layout")] Symbol);

    pub fn serialize<S: Serializer>(lists: &[Vec<Symbol>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(lists.iter().map(|list| list.iter().map(Sent).collect::<Vec<_>>()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<Symbol>>, D::Error> {
        let lists = AtMost::<MAX_PLACES, AtMost<MAX_SYMBOLS, Received>>::deserialize(from)?;
        Ok(lists.0.into_iter().map(|list| list.0.into_iter().map(|received| received.0).collect()).collect())
    }
}

mod build_id {
    use super::BuildId;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(id: &Option<BuildId>, to: S) -> Result<S::Ok, S::Error> {
        id.as_ref().map(|BuildId(bytes)| bytes).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BuildId>, D::Error> {
        Ok(Option::<Vec<u8>>::deserialize(from)?.map(BuildId))
    }
}

struct AtMost<const COUNT: usize, T>(Vec<T>);

impl<'de, const COUNT: usize, T: Deserialize<'de>> Deserialize<'de> for AtMost<COUNT, T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(AtMost(Vec::new()))
    }
}

impl<'de, const COUNT: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<COUNT, T> {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {COUNT} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut from: A) -> Result<Self, A::Error> {
        while let Some(element) = from.next_element()? {
            if self.0.len() == COUNT {
                return Err(de::Error::invalid_length(COUNT + 1, &self));
            }
            self.0.push(element);
        }
        Ok(self)
    }
}

/// Sends a message, with descriptors of files if there are any.
pub fn tell(socket: BorrowedFd<'_>, message: &impl Serialize, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let content = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let bytes = [&length.to_le_bytes()[..], &content].concat();
    let mut sent = 0;
    if !files.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::other("more files than a message may have"));
        }
        sent = sendmsg(socket, &[IoSlice::new(&bytes)], &mut rights, SendFlags::NOSIGNAL)?;
    }
    while sent < bytes.len() {
        match send(socket, &bytes[sent..], SendFlags::NOSIGNAL) {
            Ok(count) => sent += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits for a message, until `deadline` where there is one. Errors with `UnexpectedEof` where the other side is gone,
/// with `TimedOut` past the deadline.
pub fn hear<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    deadline: Option<Instant>,
) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut files = Vec::new();
    let mut length = [0; 4];
    fill(socket, &mut length, deadline, &mut files)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
    }
    let mut content = vec![0; length];
    fill(socket, &mut content, deadline, &mut files)?;
    let message = postcard::from_bytes(&content)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    Ok((message, files))
}

fn fill(
    socket: BorrowedFd<'_>,
    mut bytes: &mut [u8],
    deadline: Option<Instant>,
    files: &mut Vec<OwnedFd>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        if let Some(deadline) = deadline {
            wait(socket, deadline)?;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        match recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut rights, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(message) => bytes = &mut bytes[message.bytes..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                files.extend(descriptors);
            }
        }
    }
    Ok(())
}

/// Until there is something to read. Errors with `TimedOut` past the deadline.
pub fn wait(socket: BorrowedFd<'_>, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
