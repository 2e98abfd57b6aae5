//! Names as they were written in the source.

use std::borrow::Cow;

/// The name of a C++ or Rust function; every other as it is. C names are not looked at: `f` is also how C++ writes `float`.
pub fn demangled(name: &str) -> Cow<'_, str> {
    let is_mangled = ["_Z", "__Z", "___Z", "_R", "__R"].iter().any(|prefix| name.starts_with(prefix));
    if !is_mangled {
        return name.into();
    }
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}").into();
    }
    let cpp = cpp_demangle::Symbol::new(name).ok().and_then(|symbol| symbol.demangle().ok());
    cpp.map_or_else(|| name.into(), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_c_stay() {
        for name in
            ["f", "St", "i", "Pc", "FvvE", "M1ii", "ra", "N3fooE", "main", "_start", "_init", "", "_Z", "_R"]
        {
            assert_eq!(demangled(name), name);
        }
    }

    #[test]
    fn names_of_cpp_and_rust_are_read() {
        assert_eq!(demangled("_Znwm"), "operator new(unsigned long)");
        assert_eq!(demangled("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(demangled("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(demangled("_RNvC6_123foo3bar"), "123foo::bar");
    }
}
