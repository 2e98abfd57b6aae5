//! What holds of the sites of every build, known or not.

use super::build::Found;
use heaptrace::probes::cut::{Cut, CutSite, Kind, Place, Role};
use heaptrace::probes::symbols::{FoundFunction, Probing};
use heaptrace_common::function::Shape;
use std::collections::HashSet;

/// What every allocator has, and programs call.
const ALWAYS: [&str; 6] = ["malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc"];

/// How many functions have sites, or go on in such.
pub fn with_sites(found: &Found) -> usize {
    found.symbols.functions.iter().filter(|function| cut(function).is_some()).count()
}

/// Panics where a site could do harm or miscount.
pub fn check(found: &Found) {
    for name in ALWAYS {
        let mut named = found.symbols.functions.iter().filter(|function| function.symbol == name);
        let function = named.next().unwrap_or_else(|| panic!("no {name}"));
        assert!(cut(function).is_some(), "{name}: {:?}", function.probing);
        let is_probed = found.probes.iter().any(|probe| probe.entry == function.offset);
        assert!(is_probed || function.forwards_to.is_some(), "{name} is not probed");
    }
    for function in &found.symbols.functions {
        if let Some(cut) = cut(function) {
            self::function(found, function, cut);
        }
    }
    for probe in &found.probes {
        for site in &probe.sites {
            assert_eq!(
                found.elf.code_offset(site_address(found, site.offset)).map(|(at, _)| at),
                Some(site.offset)
            );
        }
    }
}

fn cut(function: &FoundFunction) -> Option<&Cut> {
    match &function.probing {
        Probing::Sites { cut, .. } => Some(cut),
        Probing::Refused(_) => None,
    }
}

fn function(found: &Found, function: &FoundFunction, cut: &Cut) {
    let name = &function.symbol;
    assert!(!cut.sites.is_empty() || !cut.passes_on.is_empty(), "{name}: neither sites nor where it goes on");
    let addresses: HashSet<u64> = cut.sites.iter().map(|site| site.address).collect();
    assert_eq!(addresses.len(), cut.sites.len(), "{name}: two sites at one address");
    let entries: HashSet<u64> = found.symbols.functions.iter().map(|function| function.address).collect();
    assert!(
        cut.passes_on.iter().all(|entry| entries.contains(entry)),
        "{name} goes on where nothing is probed"
    );
    for site in &cut.sites {
        let at = format!("{name} at {:x}", site.address);
        let is_proven = |(start, length): &(u64, u64)| (*start..start + length).contains(&site.address);
        assert!(cut.bytes.iter().any(is_proven), "{at}: not in the code that the proof rests on");
        assert!(found.elf.code_offset(site.address).is_some(), "{at}: no code of the file");
        self::site(&at, function.known.shape, site);
    }
    let has = |role: Role| cut.sites.iter().any(|site| site.role == role);
    let is_in_pairs = has(Role::Begin);
    assert!(is_in_pairs || !has(Role::Result), "{name}: results without beginnings");
    match cut.kind {
        _ if !function.known.shape.allocates() => assert!(has(Role::Free), "{name}"),
        Kind::OneTrap => assert!(!is_in_pairs, "{name}"),
        Kind::Stash | Kind::EntryAndExits | Kind::Stepped => assert!(is_in_pairs, "{name}"),
    }
}

fn site(at: &str, shape: Shape, site: &CutSite) {
    assert!(!site.text.starts_with("call"), "{at}: a call");
    assert!(site.condition <= 16, "{at}: no condition");
    assert!(
        site.condition == 0 || site.text.starts_with('j') || site.text.starts_with("cmov"),
        "{at}: no condition"
    );
    let has_result = site.result != Place::None;
    match site.role {
        Role::Begin | Role::Entered => assert!(!has_result, "{at}"),
        // What failed may have had any size.
        Role::Whole => {
            assert!(has_result && (site.size != Place::None || site.result == Place::Zero), "{at}")
        }
        Role::Result => assert!(has_result, "{at}"),
        // The block, or what the call is told by, is in an argument's register.
        Role::Free => assert!(!shape.allocates(), "{at}: {shape:?}"),
        Role::Sample | Role::SampleFree => panic!("{at}: no code tells of samples"),
    }
}

/// The address of a file offset that a segment with code holds.
fn site_address(found: &Found, offset: u64) -> u64 {
    let mut loads = found.elf.loads.iter().filter(|load| load.executable);
    let load = loads.find(|load| (load.offset..load.offset + load.size).contains(&offset));
    let load = load.expect("a site in no code");
    load.address + (offset - load.offset)
}
