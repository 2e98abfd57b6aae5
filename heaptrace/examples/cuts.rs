//! Shows where the calls of each allocation function of a file would be seen: `cargo run --example cuts -- FILE...`.

#![expect(clippy::disallowed_methods, reason = "a developer names the file")]

use heaptrace::probes::cut::{self, Cut, CutSite, Emulation, Image, Request};
use heaptrace::probes::symbols::FileSymbols;
use heaptrace::process::elf::ElfFacts;
use heaptrace_common::function::Shape;
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args().skip(1) {
        if let Err(error) = show(&path) {
            eprintln!("{path}: {error}");
        }
    }
    Ok(())
}

fn show(path: &str) -> Result<(), Box<dyn Error>> {
    let data = std::fs::read(path)?;
    let facts = ElfFacts::parse(data.as_slice())?;
    let emulation = Emulation { push: true, long_nops: false };
    let symbols = FileSymbols::read_for(data.as_slice(), &facts, emulation)?;
    let image = Image::new(&data, &facts).ok_or("no sections")?;
    let mut functions = BTreeMap::new();
    for function in &symbols.functions {
        let names: &mut Vec<&str> =
            &mut functions.entry(function.address).or_insert((function, Vec::new())).1;
        names.push(&function.symbol);
    }
    let allocates = |shape: Shape| shape.allocates();
    let probed: Vec<u64> = functions
        .values()
        .filter(|(function, _)| allocates(function.known.shape))
        .map(|(function, _)| function.address)
        .collect();
    println!("{path}: {}, {} functions", symbols.kind.name(), functions.len());
    for (function, names) in functions.values() {
        let (entry, shape) = (function.address, function.known.shape);
        println!("\n{} {entry:x} {shape:?}", names.join(" "));
        let started = Instant::now();
        if allocates(shape) {
            match cut::analyse(&image, &Request { entry, shape, probed: &probed, emulation }) {
                Ok(cut) => show_cut(&cut),
                Err(why) => println!("    none: {why}"),
            }
        } else {
            match cut::one_site(&image, entry, shape, emulation) {
                Ok(site) => show_site(&site),
                Err(why) => println!("    none: {why}"),
            }
        }
        println!("    {:.1} ms", started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(())
}

fn show_cut(cut: &Cut) {
    let Cut {
        kind,
        sites,
        unseen_exits,
        passes_on,
        keeps_passed,
        own_code,
        bytes,
        why,
        entry,
        between,
        begins_first,
    } = cut;
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    println!("  {kind:?}{why}");
    sites.iter().for_each(show_site);
    if let Some(entry) = entry {
        println!("    verified from {:x} {}", entry.address, entry.text);
    }
    let code: u64 = bytes.iter().map(|(_, length)| length).sum();
    let own: Vec<String> =
        own_code.iter().map(|range| format!("{:x}-{:x}", range.start, range.end)).collect();
    for (range, roots) in between {
        let roots: Vec<String> = roots.iter().map(|root| format!("{root:x}")).collect();
        println!("    between: {:x}-{:x}, reached from {}", range.start, range.end, roots.join(" "));
    }
    if *begins_first {
        println!("    its own calls come after its beginning");
    }
    let on: Vec<String> = passes_on.iter().map(|entry| format!("{entry:x}")).collect();
    println!(
        "    {code} bytes; own code {}; passes on to [{}]{}; {unseen_exits} unseen exits",
        own.join(" "),
        on.join(" "),
        if *keeps_passed { " with kept arguments" } else { "" }
    );
}

fn show_site(site: &CutSite) {
    let CutSite {
        address,
        role,
        condition,
        size,
        factor,
        result,
        caller_bp,
        pushed,
        emulated,
        shared,
        weight,
        text,
    } = site;
    println!(
        "    {address:x} {text:<36} {role:?} if {condition} size {size:?} factor {factor:?} result {result:?} \
         caller's rbp {caller_bp:?} pushed {pushed} weight {weight}{}{}",
        if *emulated { "" } else { " SINGLE-STEPPED" },
        if *shared { " shared" } else { "" },
    );
}
