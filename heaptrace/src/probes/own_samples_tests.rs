use super::*;
use proptest::prelude::*;

#[test]
fn arguments_are_read_as_the_assembler_writes_them() {
    let memory = |base, displacement| Operand::Memory { base, displacement };
    for (text, operand) in [
        ("8@%rdi", (Operand::Register(7), 8)),
        ("-4@%eax", (Operand::Register(0), 4)),
        ("1@%sil", (Operand::Register(6), 1)),
        ("4@%r12d", (Operand::Register(12), 4)),
        ("8@%r8", (Operand::Register(8), 8)),
        ("8@$4096", (Operand::Constant(4096), 8)),
        ("-8@$-1", (Operand::Constant(-1), 8)),
        ("8@$0x10", (Operand::Constant(16), 8)),
        ("8@-24(%rbp)", (memory(5, -24), 8)),
        ("8@(%rsp)", (memory(4, 0), 8)),
        ("4@16(%r13)", (memory(13, 16), 4)),
    ] {
        assert_eq!(parse(text), Some(operand), "{text}");
    }
    for text in [
        "",
        "%rdi",
        "3@%rdi",
        "8f@%xmm0",
        "8@%xmm0",
        "8@%ah",
        "8@%rip",
        "8@8(%rip)",
        "8@name(%rip)",
        "8@(%rax,%rbx,8)",
        "8@-8(%ebp)",
        "8@-8(%r8d)",
        "8@$",
        "8@$12345678901",
        "8@8(%rsp",
        "8@%r16",
        "8@%r7",
    ] {
        assert_eq!(parse(text), None, "{text}");
    }
}

fn note(texts: &[&str]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        [0x1040_u64, 0x2000, 0x3010].iter().flat_map(|word| word.to_le_bytes()).collect();
    texts.iter().for_each(|text| bytes.extend(text.bytes().chain([0])));
    bytes
}

#[test]
fn a_note_has_addresses_and_texts() {
    let bytes = note(&["otel_memory", "alloc", "8@%rdi 8@%rsi 8@%rdx"]);
    let read = Note::parse(&bytes, None).expect("a note");
    assert_eq!((read.address, read.semaphore), (0x1040, 0x3010));
    assert_eq!((read.provider, read.name, read.arguments), ("otel_memory", "alloc", "8@%rdi 8@%rsi 8@%rdx"));
    // The file was moved since by 0x100.
    let moved = Note::parse(&bytes, Some(0x2100)).expect("a note");
    assert_eq!((moved.address, moved.semaphore), (0x1140, 0x3110));
    assert!(Note::parse(&bytes[..23], None).is_none() && Note::parse(&note(&["a"])[..26], None).is_none());
}

/// push rbp; nop; mov eax, 0x90909090; nopl 0(rax,rax,1); ret
const CODE: [u8; 13] = [0x55, 0x90, 0xb8, 0x90, 0x90, 0x90, 0x90, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0xc3];

#[test]
fn only_a_nop_that_the_code_leads_to_is_probed() {
    let length_at = |at: u64| nop(&CODE, 0x1000, 0x1000 + at).map(|instruction| instruction.len());
    assert_eq!((length_at(1), length_at(7)), (Some(1), Some(5)));
    for at in (0..16).filter(|at| ![1, 7].contains(at)) {
        assert_eq!(length_at(at), None, "{at}");
    }
    // pause, xchg with prefixes: not plain.
    for bytes in [&[0xf3, 0x90][..], &[0x66, 0x90], &[0x41, 0x90], &[0x87, 0xc0]] {
        assert_eq!(nop(bytes, 0, 0), None, "{bytes:x?}");
    }
}

#[test]
fn files_without_such_probes_offer_nothing() {
    let file = std::fs::read("/proc/self/exe").expect("our own file");
    let facts = ElfFacts::parse(file.as_slice()).expect("facts");
    assert_eq!(OwnSamples::read(file.as_slice(), &facts), OwnSamples::default());
}

#[test]
fn functions_are_gone_through_up_to_a_bound_however_many_probes_they_have() {
    let data = std::fs::read("/lib/x86_64-linux-gnu/libc.so.6").expect("libc");
    let facts = ElfFacts::parse(data.as_slice()).expect("facts");
    let start = facts.address_of(0x30000).expect("code");
    let file = File {
        code_left: Cell::new(MAX_CODE),
        data: data.as_slice(),
        facts: &facts,
        entries: Some(Entries::Spans(vec![(start, start + MAX_FUNCTION)])),
        semaphores: None,
        is_function: |_| false,
    };
    let of = |behind| Note { address: start + behind, semaphore: 0, provider: "", name: "", arguments: "" };
    for _ in 0..100 {
        let _ = file.offered(&of(MAX_FUNCTION - 1), ("otel_memory", "alloc"), 3);
    }
    assert!(file.code_left.get() < MAX_FUNCTION);
    let left = file.code_left.get();
    assert_eq!(file.offered(&of(MAX_FUNCTION - 1), ("otel_memory", "alloc"), 3), Err(Unusable::Place));
    assert_eq!(file.code_left.get(), left);
}

#[test]
fn probes_are_of_samples_and_their_frees() {
    let offered = |name, offset, operands: &[(Operand, Width)]| Offered {
        provider: "otel_memory",
        name,
        offset,
        emulated: true,
        semaphore: 0x30,
        operands: operands.to_vec(),
    };
    let register = |number| (Operand::Register(number), 8);
    let own = OwnSamples {
        // Inlined at two places, and noted twice at one.
        allocs: [0x50, 0x20, 0x50]
            .map(|at| offered("alloc", at, &[register(7), register(6), register(2)]))
            .into(),
        frees: vec![offered("free", 0x10, &[register(7)])],
        ..OwnSamples::default()
    };
    let probes = own.probes();
    let sites =
        |probe: &Probe| probe.sites.iter().map(|site| (site.offset, site.semaphore)).collect::<Vec<_>>();
    let of: Vec<_> = probes.iter().map(|probe| (probe.symbol.as_str(), sites(probe))).collect();
    assert_eq!(
        of,
        [("otel_memory:free", vec![(0x10, 0x30)]), ("otel_memory:alloc", vec![(0x20, 0x30), (0x50, 0x30)])]
    );
    assert_eq!((probes[1].traps(), probes[0].traps()), ([1, 1], [1, 1]));
    assert!(OwnSamples::default().probes().is_empty());
}

proptest! {
    #[test]
    fn any_text_and_any_note_is_taken(text in ".{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = parse(&text);
        let _ = Note::parse(&bytes, Some(7));
        let _ = nop(&bytes, 0x1000, 0x1004);
    }
}
