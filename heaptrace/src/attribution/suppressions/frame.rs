//! A pattern of a frame, and which frames it fits.

use super::super::patterns::{matches, matches_with};
use crate::{demangle::demangled, units::base_name};

/// What a frame is called.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Demangled, or what stands in its place.
    pub function: &'a str,
    /// The file of its code, with folders.
    pub module: &'a str,
    /// The source file, with folders; empty if it is not known.
    pub source: &'a str,
    pub line: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// LeakSanitizer's: any part of the name of the function, of its source or of its file. Only `*` stands for others.
    Part(String),
    /// A function as it is shown, or without its return type, template arguments and parameters.
    Function(String),
    /// What a mangled name stands for.
    Demangled(String),
    Module(String),
    Source(String, Option<u32>),
}

impl Frame {
    /// LeakSanitizer's pattern, in which `^` and `$` stand for the ends.
    pub fn part(pattern: &str) -> Self {
        let (begin, rest) = pattern.strip_prefix('^').map_or(("*", pattern), |rest| ("", rest));
        let (rest, end) = rest.strip_suffix('$').map_or((rest, "*"), |rest| (rest, ""));
        Self::Part([begin, rest, end].concat())
    }

    /// valgrind's pattern of a function, whose names are mangled. `None`: it cannot be told what it stands for.
    pub fn function(pattern: &str) -> Option<Self> {
        if !pattern.starts_with("_Z") && !pattern.starts_with("_R") {
            return Some(Self::Function(pattern.to_owned()));
        }
        if !pattern.contains(['*', '?']) {
            return Some(Self::Demangled(demangled(pattern).into_owned()));
        }
        path_before_star(pattern).map(|path| Self::Function(path + "*"))
    }

    /// `file.c`, or `file.c:7`.
    pub fn source(pattern: &str) -> Self {
        let line = pattern.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
        match line {
            Some((file, line)) => Self::Source(file.to_owned(), Some(line)),
            None => Self::Source(pattern.to_owned(), None),
        }
    }

    /// `bare`: as [`super::super::names::bare`] has the function.
    pub fn fits(&self, frame: &Asked<'_>, bare: &str) -> bool {
        let Asked { function, module, source, line } = *frame;
        match self {
            Self::Part(pattern) => {
                let fits = |name: &str| !name.is_empty() && matches_with(pattern, None, name);
                fits(function) || fits(source) || fits(module)
            }
            Self::Function(pattern) => matches(pattern, function) || matches(pattern, bare),
            // The allocation functions themselves have no parameters here.
            Self::Demangled(name) => {
                let function = function.split(" [clone ").next().unwrap_or_default();
                // The operators for arrays are traced as the others.
                let own = || name.split('(').next().unwrap_or_default().replace("[]", "");
                // Debug information names functions without their paths.
                let last = || super::super::names::bare(name).rsplit("::").next() == Some(function);
                let is_pathless = function == bare && !function.contains("::");
                name == function
                    || if module.is_empty() {
                        own() == function.split('(').next().unwrap_or_default()
                    } else {
                        is_pathless && last()
                    }
            }
            Self::Module(pattern) => matches(pattern, module),
            Self::Source(pattern, of_line) => {
                (matches(pattern, source) || matches(pattern, base_name(source)))
                    && of_line.is_none_or(|of_line| line == Some(of_line))
            }
        }
    }
}

/// Of `_ZN3foo3ba*` the path `foo::ba`; `None` where wildcards stand elsewhere than at the end, or before them more than a path.
fn path_before_star(pattern: &str) -> Option<String> {
    let mut rest = pattern.strip_prefix("_Z")?.strip_suffix('*')?;
    if rest.contains(['*', '?']) {
        return None;
    }
    if let Some(nested) = rest.strip_prefix('N') {
        rest = nested.strip_prefix('K').unwrap_or(nested);
    }
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let length: usize = rest[..digits].parse().ok()?;
        let name = &rest[digits..];
        let name = name.get(..length.min(name.len())).filter(|name| !name.is_empty())?;
        parts.push(name);
        rest = &rest[digits + name.len()..];
        // The end of a path; behind it are parameters.
        if matches!(rest, "E" | "C" | "D") {
            rest = "";
        }
    }
    (!parts.is_empty()).then(|| parts.join("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_valgrinds_fit_what_debug_information_has() {
        let fits = |pattern: &str, function: &str, module: &str| {
            let bare = super::super::super::names::bare(function);
            let asked = Asked { function, module, source: "", line: None };
            Frame::function(pattern).expect("a pattern").fits(&asked, &bare)
        };
        assert!(fits("_ZN12_GLOBAL__N_14anonEv", "anon", "/bin/x"));
        assert!(fits("_ZN12_GLOBAL__N_14anonEv", "(anonymous namespace)::anon()", "/bin/x"));
        assert!(fits("_ZZ4mainENKUliE_clEi", "operator()", "/bin/x"));
        assert!(fits("_Znam", "operator new(unsigned long)", "") && fits("_Znam", "operator new", ""));
        assert!(!fits("_ZN12_GLOBAL__N_14anonEv", "other::anon", "/bin/x"));
        assert!(!fits("_ZN12_GLOBAL__N_14anonEv", "anon2", "/bin/x"));
    }

    #[test]
    fn mangled_beginnings_are_paths() {
        assert_eq!(path_before_star("_ZN3foo3ba*").as_deref(), Some("foo::ba"));
        assert_eq!(path_before_star("_ZN3foo3barE*").as_deref(), Some("foo::bar"));
        assert_eq!(path_before_star("_ZNK3foo*").as_deref(), Some("foo"));
        assert_eq!(path_before_star("_Z4open*").as_deref(), Some("open"));
        for none in ["_Z*", "_ZN*foo*", "_ZN3fooIiE3bar*", "_ZN99*", "_ZN2f\u{e9}*"] {
            assert_eq!(path_before_star(none), None, "{none}");
        }
    }
}
