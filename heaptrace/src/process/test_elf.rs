//! Builds small ELF files for tests.

/// Distance between the addresses and the file offsets of code, so that mistaking one for the other shows.
pub const CODE_BIAS: u64 = 0x10_0000;

/// What the file is to hold. Names and bytes of functions, in order of address.
#[derive(Clone, Debug, Default)]
pub struct TestElf<'a> {
    /// `ET_EXEC` instead of `ET_DYN`.
    pub fixed_address: bool,
    pub interpreter: Option<&'a str>,
    pub soname: Option<&'a str>,
    pub needed: Vec<&'a str>,
    pub build_id: Option<&'a [u8]>,
    pub go: bool,
    /// In .dynsym.
    pub exported: Vec<(&'a str, &'a [u8])>,
    /// In .symtab only.
    pub hidden: Vec<(&'a str, &'a [u8])>,
    /// Further exported names of the first exported function.
    pub aliases: Vec<&'a str>,
    /// 1 for a 32-bit file.
    pub class: Option<u8>,
    pub machine: Option<u16>,
    /// Sizes of functions are 0 in the symbol tables.
    pub sizeless: bool,
}

struct Section {
    name: &'static str,
    kind: u32,
    offset: u64,
    size: u64,
    link: u32,
    entry: u64,
}

const HEADER: usize = 64;
const SEGMENTS: usize = 5;

impl TestElf<'_> {
    /// The file offset of the function number `index`, exported ones first.
    pub fn offset_of(&self, index: usize) -> u64 {
        let functions = self.exported.iter().chain(&self.hidden);
        self.code_start() + functions.take(index).map(|(_, code)| code.len() as u64).sum::<u64>()
    }

    fn code_start(&self) -> u64 {
        (HEADER + SEGMENTS * 56) as u64
    }

    pub fn build(&self) -> Vec<u8> {
        let mut file = vec![0; HEADER + SEGMENTS * 56];
        let mut sections: Vec<Section> = Vec::new();
        for (_, code) in self.exported.iter().chain(&self.hidden) {
            file.extend(*code);
        }
        let code_size = file.len() as u64 - self.code_start();
        let mut dynstr = vec![0];
        let mut dynsym = vec![0; 24];
        let aliases = self.aliases.iter().map(|name| (0, *name));
        let exported = self.exported.iter().enumerate().map(|(index, (name, _))| (index, *name));
        for (index, name) in exported.chain(aliases) {
            self.symbol(&mut dynsym, &mut dynstr, name, index);
        }
        let (mut strtab, mut symtab) = (vec![0], vec![0; 24]);
        for (index, (name, _)) in self.exported.iter().chain(&self.hidden).enumerate() {
            self.symbol(&mut symtab, &mut strtab, name, index);
        }
        let mut dynamic = Vec::new();
        let mut entry = |tag: u64, value: u64| {
            dynamic.extend(tag.to_le_bytes());
            dynamic.extend(value.to_le_bytes());
        };
        for name in &self.needed {
            entry(1, add_string(&mut dynstr, name));
        }
        if let Some(soname) = self.soname {
            entry(14, add_string(&mut dynstr, soname));
        }
        let dynstr_at = append(&mut file, &mut sections, ".dynstr", 3, &dynstr, 0, 0);
        entry(5, dynstr_at);
        entry(10, dynstr.len() as u64);
        entry(0, 0);
        append(&mut file, &mut sections, ".dynsym", 11, &dynsym, 1, 24);
        append(&mut file, &mut sections, ".strtab", 3, &strtab, 0, 0);
        append(&mut file, &mut sections, ".symtab", 2, &symtab, 3, 24);
        let dynamic_at = append(&mut file, &mut sections, ".dynamic", 6, &dynamic, 1, 16);
        let interpreter = self.interpreter.map(|path| [path.as_bytes(), b"\0"].concat()).unwrap_or_default();
        let interpreter_at = append(&mut file, &mut sections, ".interp", 1, &interpreter, 0, 0);
        let note = self.build_id.map(note).unwrap_or_default();
        let note_at = append(&mut file, &mut sections, ".note.gnu.build-id", 7, &note, 0, 0);
        if self.go {
            append(&mut file, &mut sections, ".go.buildinfo", 1, b"\xff Go buildinf:", 0, 0);
        }
        let all = file.len() as u64;
        let is_static = self.fixed_address && self.interpreter.is_none();
        let segments: [(u32, u32, u64, u64, u64); SEGMENTS] = [
            (1, 4, 0, 0, all),
            (1, 5, self.code_start(), self.code_start() + CODE_BIAS, code_size),
            (if is_static { 0 } else { 2 }, 4, dynamic_at, dynamic_at, dynamic.len() as u64),
            (
                if interpreter.is_empty() { 0 } else { 3 },
                4,
                interpreter_at,
                interpreter_at,
                interpreter.len() as u64,
            ),
            (if note.is_empty() { 0 } else { 4 }, 4, note_at, note_at, note.len() as u64),
        ];
        for (index, (kind, flags, offset, address, size)) in segments.into_iter().enumerate() {
            let mut segment = Vec::new();
            segment.extend(kind.to_le_bytes());
            segment.extend(flags.to_le_bytes());
            [offset, address, address, size, size, 4]
                .iter()
                .for_each(|word| segment.extend(word.to_le_bytes()));
            file[HEADER + index * 56..][..56].copy_from_slice(&segment);
        }
        let names: Vec<u8> = [&b"\0"[..]]
            .into_iter()
            .chain(sections.iter().flat_map(|s| [s.name.as_bytes(), b"\0"]))
            .flatten()
            .chain(b".shstrtab\0")
            .copied()
            .collect();
        let shstrndx = sections.len() as u16 + 1;
        append(&mut file, &mut sections, ".shstrtab", 3, &names, 0, 0);
        let shoff = self.section_headers(&mut file, &sections);
        self.header(&mut file, shoff, shstrndx, sections.len() as u16 + 1);
        file
    }

    fn symbol(&self, table: &mut Vec<u8>, strings: &mut Vec<u8>, name: &str, index: usize) {
        let functions: Vec<_> = self.exported.iter().chain(&self.hidden).collect();
        table.extend((add_string(strings, name) as u32).to_le_bytes());
        // Global function in some section.
        table.extend([0x12, 0, 1, 0]);
        table.extend((self.offset_of(index) + CODE_BIAS).to_le_bytes());
        let size = if self.sizeless { 0 } else { functions[index].1.len() as u64 };
        table.extend(size.to_le_bytes());
    }

    fn section_headers(&self, file: &mut Vec<u8>, sections: &[Section]) -> u64 {
        let at = file.len() as u64;
        file.extend([0; 64]);
        let mut name = 1u32;
        for section in sections {
            file.extend(name.to_le_bytes());
            file.extend(section.kind.to_le_bytes());
            [0, section.offset, section.offset, section.size]
                .iter()
                .for_each(|word| file.extend(word.to_le_bytes()));
            file.extend(section.link.to_le_bytes());
            file.extend(0u32.to_le_bytes());
            [4, section.entry].iter().for_each(|word| file.extend(word.to_le_bytes()));
            name += section.name.len() as u32 + 1;
        }
        at
    }

    fn header(&self, file: &mut [u8], shoff: u64, shstrndx: u16, shnum: u16) {
        let mut header =
            vec![0x7f, b'E', b'L', b'F', self.class.unwrap_or(2), 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let kind: u16 = if self.fixed_address { 2 } else { 3 };
        header.extend(kind.to_le_bytes());
        header.extend(self.machine.unwrap_or(62).to_le_bytes());
        header.extend(1u32.to_le_bytes());
        [0, HEADER as u64, shoff].iter().for_each(|word| header.extend(word.to_le_bytes()));
        header.extend(0u32.to_le_bytes());
        let halves = [HEADER as u16, 56, SEGMENTS as u16, 64, shnum, shstrndx];
        halves.iter().for_each(|half| header.extend(half.to_le_bytes()));
        file[..HEADER].copy_from_slice(&header);
    }
}

fn add_string(strings: &mut Vec<u8>, string: &str) -> u64 {
    let at = strings.len() as u64;
    strings.extend(string.as_bytes());
    strings.push(0);
    at
}

fn note(build_id: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    [4, build_id.len() as u32, 3].iter().for_each(|word| note.extend(word.to_le_bytes()));
    note.extend(b"GNU\0");
    note.extend(build_id);
    note
}

/// Appends a section, aligned; returns its offset.
fn append(
    file: &mut Vec<u8>,
    sections: &mut Vec<Section>,
    name: &'static str,
    kind: u32,
    bytes: &[u8],
    link: u32,
    entry: u64,
) -> u64 {
    file.resize(file.len().next_multiple_of(8), 0);
    let offset = file.len() as u64;
    file.extend(bytes);
    sections.push(Section { name, kind, offset, size: bytes.len() as u64, link, entry });
    offset
}
