//! Parser of /proc/PID/maps.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What a mapping permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permissions {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    pub shared: bool,
}

/// One line of /proc/PID/maps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    pub start: u64,
    /// First address past it.
    pub end: u64,
    pub permissions: Permissions,
    /// Bytes into the file.
    pub offset: u64,
    /// Major and minor number of the device, as the kernel prints them: on btrfs and overlayfs not what stat says.
    pub dev: (u32, u32),
    /// 0 where there is no file.
    pub inode: u64,
    /// Raw bytes, unescaped, without " (deleted)"; also `[heap]`, `[stack]`, `[vdso]`, `[uprobes]`,
    /// `[anon:...]`. `None` for anonymous memory.
    pub path: Option<PathBuf>,
    pub deleted: bool,
}

const DELETED: &[u8] = b" (deleted)";

impl Mapping {
    /// The path, if a file is mapped (and not `[heap]` or the like).
    pub fn file(&self) -> Option<&Path> {
        self.path.as_deref().filter(|path| self.inode != 0 && path.as_os_str().as_bytes().starts_with(b"/"))
    }
}

/// Parses the contents of a maps file; lines that are no mapping (a torn last line) are left out.
pub fn parse(contents: &[u8]) -> Vec<Mapping> {
    contents.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// Parses one line, without its newline. `None` if it is no mapping.
pub fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let (start, end) = split_numbers(field(&mut rest)?, b'-', 16)?;
    let permissions = parse_permissions(field(&mut rest)?)?;
    let offset = number(field(&mut rest)?, 16)?;
    let (major, minor) = split_numbers(field(&mut rest)?, b':', 16)?;
    let dev = (u32::try_from(major).ok()?, u32::try_from(minor).ok()?);
    let inode = number(field(&mut rest)?, 10)?;
    let name = rest.trim_ascii_start();
    // A file really called "x (deleted)" cannot be told from a deleted "x" (proc(5)).
    let deleted = inode != 0 && name.ends_with(DELETED);
    let name = if deleted { &name[..name.len() - DELETED.len()] } else { name };
    let path = (!name.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(&unescape(name))));
    (start < end).then_some(Mapping { start, end, permissions, offset, dev, inode, path, deleted })
}

/// Takes the bytes up to the next space off `rest`.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    let (field, tail) = rest.split_at(end);
    *rest = tail.get(1..).unwrap_or_default();
    (!field.is_empty()).then_some(field)
}

fn number(field: &[u8], radix: u32) -> Option<u64> {
    let digits = std::str::from_utf8(field).ok()?;
    // from_str_radix takes a leading '+'.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, radix).ok())?
}

fn split_numbers(field: &[u8], separator: u8, radix: u32) -> Option<(u64, u64)> {
    let at = field.iter().position(|byte| *byte == separator)?;
    Some((number(&field[..at], radix)?, number(&field[at + 1..], radix)?))
}

fn parse_permissions(field: &[u8]) -> Option<Permissions> {
    let &[read, write, execute, shared] = field else { return None };
    let flag = |byte, set| match byte {
        b'-' => Some(false),
        byte if byte == set => Some(true),
        _ => None,
    };
    let shared = match shared {
        b's' => true,
        b'p' => false,
        _ => return None,
    };
    Some(Permissions {
        read: flag(read, b'r')?,
        write: flag(write, b'w')?,
        execute: flag(execute, b'x')?,
        shared,
    })
}

/// Undoes the kernel's escaping of a newline (fs/proc/task_mmu.c escapes only that). A path that holds these
/// four characters itself cannot be told apart.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(br"\012") {
            plain.push(b'\n');
            rest = tail;
        } else {
            plain.push(*first);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path_of(line: &str) -> Option<PathBuf> {
        parse_line(line.as_bytes()).expect("a mapping").path
    }

    #[test]
    fn a_file_mapping_has_all_its_fields() {
        let line = "7f0012300000-7f0012456000 r-xp 00026000 fe:01 1835 /lib/x86_64-linux-gnu/libc.so.6";
        let expected = Mapping {
            start: 0x7f00_1230_0000,
            end: 0x7f00_1245_6000,
            permissions: Permissions { read: true, write: false, execute: true, shared: false },
            offset: 0x26000,
            dev: (0xfe, 1),
            inode: 1835,
            path: Some("/lib/x86_64-linux-gnu/libc.so.6".into()),
            deleted: false,
        };
        assert_eq!(parse_line(line.as_bytes()), Some(expected));
    }

    #[test]
    fn special_names_are_no_files() {
        for name in ["[heap]", "[stack]", "[vdso]", "[uprobes]", "[anon: glibc: malloc arena]"] {
            let line = format!("1000-2000 rw-p 00000000 00:00 0          {name}");
            let mapping = parse_line(line.as_bytes()).expect("a mapping");
            assert_eq!(mapping.path, Some(name.into()));
            assert_eq!(mapping.file(), None);
        }
    }

    #[test]
    fn anonymous_memory_has_no_path() {
        assert_eq!(path_of("1000-2000 rw-p 00000000 00:00 0 "), None);
        assert_eq!(path_of("1000-2000 rw-p 00000000 00:00 0"), None);
    }

    #[test]
    fn a_deleted_file_is_marked_and_keeps_its_name() {
        let mapping =
            parse_line(b"1000-2000 r-xp 00000000 08:01 7 /usr/lib/old lib.so (deleted)").expect("a mapping");
        assert!(mapping.deleted);
        assert_eq!(mapping.file(), Some(Path::new("/usr/lib/old lib.so")));
    }

    #[test]
    fn spaces_and_newlines_in_paths_survive() {
        assert_eq!(path_of(r"1000-2000 r-xp 0 08:01 7      /tmp/a  b\012c"), Some("/tmp/a  b\nc".into()));
    }

    #[test]
    fn lines_that_are_no_mapping_are_left_out() {
        for line in
            ["", "x", "1000 r-xp 0 08:01 7 /x", "2000-1000 r-xp 0 08:01 7 /x", "1000-2000 rwx 0 08:01 7 /x"]
        {
            assert_eq!(parse_line(line.as_bytes()), None, "{line}");
        }
        assert_eq!(parse(b"1000-2000 r-xp 0 08:01 7 /x\n3000-40").len(), 1);
    }

    #[test]
    fn our_own_maps_hold_this_function() {
        let here = our_address();
        let mappings = parse(&std::fs::read("/proc/self/maps").expect("maps"));
        let mapping = mappings.iter().find(|m| (m.start..m.end).contains(&here)).expect("mapped");
        assert!(mapping.permissions.execute);
        assert_eq!(mapping.file(), Some(std::env::current_exe().expect("exe").as_path()));
    }

    fn our_address() -> u64 {
        our_address as fn() -> u64 as usize as u64
    }

    fn print(mapping: &Mapping) -> Vec<u8> {
        let Mapping { start, end, permissions: p, offset, dev: (major, minor), inode, path, deleted } =
            mapping;
        let flag = |set, char| if set { char } else { '-' };
        let shared = if p.shared { 's' } else { 'p' };
        let (r, w, x) = (flag(p.read, 'r'), flag(p.write, 'w'), flag(p.execute, 'x'));
        let mut line =
            format!("{start:08x}-{end:08x} {r}{w}{x}{shared} {offset:08x} {major:02x}:{minor:02x} {inode}")
                .into_bytes();
        line.resize(line.len().max(72), b' ');
        line.push(b' ');
        for byte in path.iter().flat_map(|path| path.as_os_str().as_bytes()) {
            if *byte == b'\n' { line.extend(br"\012") } else { line.push(*byte) }
        }
        if *deleted {
            line.extend(DELETED);
        }
        line
    }

    prop_compose! {
        fn mapping()(
            start in 0u64..1 << 47, len in 1u64..1 << 40, flags in any::<[bool; 4]>(), offset: u64,
            dev in (0u32..1 << 12, 0u32..1 << 20), inode in 1u64..,
            path in "(/[a-z \n().]{0,9}[a-z])+", deleted: bool,
        ) -> Mapping {
            let [read, write, execute, shared] = flags;
            let permissions = Permissions { read, write, execute, shared };
            Mapping { start, end: start + len, permissions, offset, dev, inode, path: Some(path.into()), deleted }
        }
    }

    proptest! {
        #[test]
        fn what_the_kernel_prints_is_read_back(mapping in mapping()) {
            prop_assert_eq!(parse_line(&print(&mapping)), Some(mapping));
        }

        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
