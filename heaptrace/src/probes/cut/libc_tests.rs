//! What is found in the C library of this machine, and that no bytes do harm.

use super::*;
use crate::fixtures::assembler::BASE;
use crate::process::elf::ElfFacts;
use heaptrace_common::function::Shape;
use proptest::prelude::*;

const EMULATION: Emulation = Emulation { push: true, long_nops: false };

fn libc() -> Vec<u8> {
    let maps = std::fs::read("/proc/self/maps").expect("maps");
    let mappings = crate::process::maps::parse(&maps);
    let mut files = mappings.iter().filter_map(|mapping| mapping.file());
    std::fs::read(files.find(|path| path.ends_with("libc.so.6")).expect("libc")).expect("libc")
}

/// The cuts of functions of the same file, by name and shape.
fn cuts(file: &[u8], functions: &[(&str, Shape)]) -> Vec<Cut> {
    let facts = ElfFacts::parse(file).expect("facts");
    let image = Image::new(file, &facts).expect("an image");
    let entry = |name: &str| image.definition(name).expect("a function");
    let probed: Vec<u64> = functions.iter().map(|(name, _)| entry(name)).collect();
    let cut = |(name, shape): &(&str, Shape)| {
        let request = Request { entry: entry(name), shape: *shape, probed: &probed, emulation: EMULATION };
        analyse(&image, &request).expect(name)
    };
    functions.iter().map(cut).collect()
}

fn shown(cut: &Cut, base: u64) -> Vec<String> {
    let line = |site: &CutSite| {
        let CutSite { address, role, condition, size, result, text, .. } = site;
        let mnemonic = text.split(' ').next().unwrap_or_default();
        format!("{:x} {mnemonic} {role:?} {condition} {size:?} {result:?}", address - base)
    };
    cut.sites.iter().map(line).collect()
}

#[test]
fn glibc_2_36_has_the_cuts_that_were_measured() {
    let file = libc();
    let has = |text: &[u8]| file.windows(text.len()).any(|window| window == text);
    if !has(b"GNU C Library (Debian GLIBC 2.36") {
        eprintln!("NOT RUN: another C library than Debian's 2.36");
        return;
    }
    let found = cuts(&file, &[("malloc", Shape::Size0), ("calloc", Shape::Product01)]);
    let [malloc, calloc] = found.as_slice() else { panic!("{found:?}") };
    // The thread cache falls straight to the return: one trap. One thread only, without it: two.
    let base = malloc.own_code[0].start;
    let expected = [
        "62 jne Begin 6 Register(3) None",
        "b7 jne Whole 0 Register(3) Register(0)",
        "157 jne Whole 0 Register(3) Register(0)",
        "225 mov Whole 0 Register(3) Zero",
        "295 jmp Whole 0 Register(3) Register(0)",
        "19d je Result 0 None Register(0)",
    ];
    assert_eq!((malloc.kind, shown(malloc, base)), (Kind::Stash, expected.map(String::from).to_vec()));
    let last = calloc.own_code.last().expect("own code").start;
    let expected = [
        "1b0 xor Whole 0 Register(3) Zero",
        "223 ja Whole 0 Register(3) Register(0)",
        "26b jne Whole 0 Register(2) Register(0)",
        "308 jmp Whole 0 Register(3) Register(0)",
    ];
    assert_eq!((calloc.kind, shown(calloc, last)), (Kind::OneTrap, expected.map(String::from).to_vec()));
}

#[test]
fn every_allocation_function_of_the_c_library_is_seen_without_return_probes() {
    let functions = [
        ("malloc", Shape::Size0),
        ("calloc", Shape::Product01),
        ("realloc", Shape::Resize),
        ("memalign", Shape::Size1),
        ("valloc", Shape::Size0),
        ("pvalloc", Shape::Pages0),
        ("posix_memalign", Shape::OutPointer),
        ("reallocarray", Shape::ResizeProduct),
    ];
    for (cut, (name, _)) in cuts(&libc(), &functions).iter().zip(functions) {
        assert!(!cut.sites.is_empty() || !cut.passes_on.is_empty(), "{name}");
        assert!(cut.sites.iter().filter(|site| site.role == Role::Result).count() < 16, "{name}");
        let mut addresses: Vec<u64> = cut.sites.iter().map(|site| site.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), cut.sites.len(), "{name}: two sites at one address");
    }
}

proptest! {
    #[test]
    fn any_code_is_analysed_without_panic_and_in_time(code in prop::collection::vec(any::<u8>(), 1..600), middle: u16) {
        let base = BASE;
        let (end, middle) = (base + code.len() as u64, base + u64::from(middle) % code.len() as u64);
        let spans = [base..middle, middle..end];
        let spans: Vec<_> = spans.into_iter().filter(|span| span.start < span.end).collect();
        for spans in [&spans[..], &[]] {
            let image = Image::of_code(base, &code, spans);
            for shape in [Shape::Size0, Shape::Product01, Shape::Resize, Shape::OutPointer] {
                let request = Request { entry: base, shape, probed: &[base, middle], emulation: EMULATION };
                let _ = analyse(&image, &request);
            }
            let _ = one_site(&image, base, Shape::Free0, EMULATION);
        }
    }
}
