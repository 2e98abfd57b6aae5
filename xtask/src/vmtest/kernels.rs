//! Debian's kernels: which there are, and fetching one from the mirror that this machine's apt uses.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::suite::Apt;

/// A kernel of Debian, by the suite that ships it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    pub name: &'static str,
    pub suite: &'static str,
    /// Whether heaptrace must work on it, or else refuse it.
    pub supported: bool,
}

pub const KERNELS: &[Kernel] = &[
    Kernel { name: "5.10", suite: "bullseye", supported: false },
    Kernel { name: "6.1", suite: "bookworm", supported: true },
    Kernel { name: "6.12", suite: "trixie", supported: true },
    Kernel { name: "newest", suite: "sid", supported: true },
];

/// The kernels that `names` stand for, by version or suite; all for none.
///
/// # Errors
/// When a name is unknown; the message lists those that are.
pub fn chosen(names: &[String]) -> Result<Vec<Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.to_vec());
    }
    let find = |name: &String| {
        let kernel = KERNELS.iter().find(|kernel| name == kernel.name || name == kernel.suite).copied();
        let all = || KERNELS.iter().map(|kernel| format!("{} ({})", kernel.name, kernel.suite));
        kernel
            .with_context(|| format!("no kernel {name}; there are {}", all().collect::<Vec<_>>().join(", ")))
    };
    names.iter().map(find).collect()
}

/// The image of `kernel`, under `cache`; fetched unless it is there.
///
/// # Errors
/// When apt cannot fetch it, or its packages have no image.
pub fn fetch(kernel: Kernel, cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(kernel.suite);
    if let Some(image) = image(&folder) {
        return Ok(image);
    }
    eprintln!(
        "fetching Debian's {} kernel to {} (remove that for a newer one)",
        kernel.suite,
        folder.display()
    );
    let apt = Apt::new(&folder, kernel.suite)?;
    apt.update()?;
    // A package without a kernel in it names the one that has it, or another step on the way.
    let mut packages = vec![format!("linux-image-{}", apt.architecture)];
    let mut next = 0;
    while let Some(package) = packages.get(next).cloned() {
        next += 1;
        apt.download(&package)?;
        if let Some(image) = image(&folder) {
            return Ok(image);
        }
        for depended in kernel_packages(&apt.depends(&package)?) {
            if !packages.contains(&depended) {
                packages.push(depended);
            }
        }
    }
    bail!("no kernel image in {}", packages.join(", "))
}

/// Where packages keep the image: `/boot/vmlinuz-RELEASE`, newer ones `/usr/lib/modules/RELEASE/vmlinuz`.
fn image(folder: &Path) -> Option<PathBuf> {
    let entries = |part: &str| fs::read_dir(folder.join("root").join(part)).into_iter().flatten().flatten();
    let boot = entries("boot")
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
        .map(|entry| entry.path());
    let modules = entries("usr/lib/modules").map(|release| release.path().join("vmlinuz"));
    boot.chain(modules).filter(|image| image.is_file()).max()
}

/// From what `apt-cache depends` prints, the packages that may have the kernel's image.
fn kernel_packages(depends: &str) -> Vec<String> {
    depends
        .lines()
        .filter_map(|line| line.trim_start_matches([' ', '|']).strip_prefix("Depends: "))
        .filter(|name| name.starts_with("linux-image-") || name.starts_with("linux-binary-"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_named_by_version_or_suite() {
        let names = |names: &[&str]| chosen(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(names(&["6.1", "trixie"]).unwrap(), [KERNELS[1], KERNELS[2]]);
        assert_eq!(names(&[]).unwrap(), KERNELS);
        assert!(names(&["2.6"]).unwrap_err().to_string().contains("bookworm"));
    }

    #[test]
    fn the_way_to_the_image_is_found_in_a_metapackage() {
        let text = "linux-image-7.2-amd64\n  PreDepends: linux-base\n |Depends: dracut\n  Depends: linux-binary-7.2-amd64\n  Depends: linux-modules-7.2-amd64\n";
        assert_eq!(kernel_packages(text), ["linux-binary-7.2-amd64"]);
    }
}
