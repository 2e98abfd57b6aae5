//! Releases of the kernel, as far as they are ordered.

use super::system;
use std::{fmt, str::FromStr};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

impl KernelVersion {
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// The running kernel's. `None` if its release is not of the form `N.N...`.
    pub fn running() -> Option<Self> {
        system::kernel_release().parse().ok()
    }
}

impl FromStr for KernelVersion {
    type Err = ();

    /// Takes a release as `uname -r` prints it: `6.12.22+deb13-amd64`, `6.8`, `6.1.0-rc1`.
    fn from_str(release: &str) -> Result<Self, ()> {
        let mut parts = release.splitn(3, '.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().map_err(|_| ())
        });
        let major = parts.next().ok_or(())??;
        let minor = parts.next().ok_or(())??;
        let patch = parts.next().and_then(Result::ok).unwrap_or(0);
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(release: &str) -> KernelVersion {
        release.parse().expect("a release")
    }

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(version("6.12.22+deb13-amd64"), KernelVersion::new(6, 12, 22));
        assert_eq!(version("5.14.0-427.el9.x86_64"), KernelVersion::new(5, 14, 0));
        assert_eq!(version("6.8-rc1"), KernelVersion::new(6, 8, 0));
        assert!("linux".parse::<KernelVersion>().is_err());
    }

    proptest! {
        #[test]
        fn any_release_is_parsed_without_panic(release in "\\PC*") {
            let _ = release.parse::<KernelVersion>();
        }
    }
}
