//! One library, its sites, and whether there is a golden file of this very build.

use super::{sound, text};
use heaptrace::probes::cut::Emulation;
use heaptrace::probes::symbols::FileSymbols;
use heaptrace::probes::{candidate::Described, plan, probe::Probe};
use heaptrace::process::elf::ElfFacts;
use std::path::{Path, PathBuf};

/// Linux from 4.20 to 6.15, whatever runs here.
const EMULATION: Emulation = Emulation { push: true, long_nops: false };

/// The release that moves.
const UNSTABLE: &str = "sid";

/// A library of a Debian release.
pub struct Build {
    pub suite: &'static str,
    pub library: &'static str,
}

/// What was found in a library.
pub struct Found {
    pub library: &'static str,
    pub build_id: String,
    pub elf: ElfFacts,
    pub symbols: FileSymbols,
    pub probes: Vec<Probe>,
    /// What is left out of the probes, and why.
    pub refusals: Vec<String>,
}

/// Compares a library's sites with the golden file of its build.
pub fn check(build: &Build) {
    let Build { suite, library } = build;
    let Some(path) = build.path() else {
        eprintln!("NOT RUN: no {library} of {suite}; `./x setup` fetches what the release has");
        return;
    };
    let found = build.read(&path);
    sound::check(&found);
    let name = format!("{suite}-{library}-{}", &found.build_id[..8]);
    let is_known = snapshots().join(format!("{name}.snap")).exists();
    if !is_known && !is_accepting() {
        let with_sites = sound::with_sites(&found);
        let said = format!(
            "{library} of {suite} is another build than any golden file's (build ID {}): {with_sites} of {} functions \
             have sites",
            found.build_id,
            found.symbols.functions.len()
        );
        assert!(*suite == UNSTABLE, "{said}; look at them, and accept them with INSTA_UPDATE=always");
        eprintln!("{said}");
        return;
    }
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => snapshots(), omit_expression => true }, {
        insta::assert_snapshot!(name, text::of(&found));
    });
}

fn snapshots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/builds")
}

/// Whether whoever runs the tests wants new golden files.
fn is_accepting() -> bool {
    std::env::var("INSTA_UPDATE").is_ok_and(|update| !matches!(update.as_str(), "" | "no" | "auto"))
}

impl Build {
    fn path(&self) -> Option<PathBuf> {
        let root = target().join("releases").join(self.suite).join("root");
        let places = ["usr/lib", "lib"].into_iter().flat_map(|lib| {
            ["x86_64-linux-gnu", "x86_64-linux-musl"].map(|triplet| Path::new(lib).join(triplet))
        });
        places.map(|place| root.join(place).join(self.library)).find(|path| path.exists())
    }

    fn read(&self, path: &Path) -> Found {
        let data = std::fs::read(path).expect("the library");
        let elf = ElfFacts::parse(data.as_slice()).expect("an ELF file");
        let symbols = FileSymbols::read_for(data.as_slice(), &elf, EMULATION).expect("symbols");
        let described =
            Described { path: Path::new(self.library), elf: &elf, symbols: &symbols, repeated: false };
        let mut choice = plan::choose(&[described], plan::Places::OneProcess);
        let build_id = elf.build_id.as_ref().expect("a build ID");
        let build_id = build_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let probes = choice.probes.remove(0);
        Found { library: self.library, build_id, elf, symbols, probes, refusals: choice.refusals }
    }
}

/// The folder that cargo builds in.
fn target() -> PathBuf {
    let binary = std::env::current_exe().expect("the test's binary");
    binary.ancestors().nth(3).expect("target/PROFILE/deps/BINARY").to_owned()
}
