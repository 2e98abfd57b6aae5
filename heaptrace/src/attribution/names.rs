//! Names of functions as demanglers write them: their bare paths, which patterns are matched with, and short forms for people.

use std::borrow::Cow;

/// Template arguments of more characters are left out.
const LONG: usize = 16;

/// What may follow `operator`, longer ones first: these look like brackets elsewhere.
const OPERATORS: [&str; 13] =
    ["()", "<<=", ">>=", "<=>", "->*", "<<", ">>", "<=", ">=", "->", "[]", "<", ">"];

/// What compilers append to the names of parts of functions, as C has them.
const PARTS: [&str; 5] = [".isra.", ".part.", ".constprop.", ".cold", ".lto_priv."];

/// A function's path without return type, template arguments, parameters and what compilers append:
/// `void std::vector<int>::push_back(int const&)` is `std::vector::push_back`. Of a Rust method of a trait, the path of the type
/// before the method, or of the trait where the type has none.
pub fn bare(name: &str) -> String {
    within(name, DEEPEST)
}

/// Brackets within brackets that are looked into, for the path of a type: no name that a compiler writes has half as many, and
/// anybody may have written one.
const DEEPEST: u32 = 16;

fn within(name: &str, deeper: u32) -> String {
    let mut out = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if let Some(length) = operator(rest, &out) {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        match first {
            '<' => {
                let (inner, after) = bracketed(rest);
                if !follows_name(&out) {
                    out.push_str(
                        &deeper.checked_sub(1).map_or_else(String::new, |deeper| qualified(inner, deeper)),
                    );
                } else if out.ends_with("::") && after.starts_with("::") {
                    // `alloc::slice::<impl [T]>::to_vec`
                    out.truncate(out.len() - 2);
                }
                rest = after;
            }
            '(' if rest.starts_with("(anonymous namespace)") => {
                out.push_str("(anonymous namespace)");
                rest = &rest["(anonymous namespace)".len()..];
            }
            '(' => {
                let (_, after) = bracketed(rest);
                if out.ends_with("decltype") {
                    out.clear();
                } else if out.is_empty() || out.ends_with('.') {
                    // Go's `main.(*Server).handle`.
                    out.push_str(&rest[..rest.len() - after.len()]);
                } else if !after.starts_with("::") && !after.starts_with(" const::") {
                    break;
                }
                rest = after.strip_prefix(" const").filter(|after| after.starts_with("::")).unwrap_or(after);
            }
            '{' => {
                let (inner, after) = bracketed(rest);
                out.push('{');
                out.push_str(inner.split(['(', '#']).next().unwrap_or_default());
                out.push('}');
                rest = after;
            }
            // What came before it was a return type.
            ' ' if rest.starts_with(" [clone") => break,
            ' ' => {
                if !rest.starts_with(" <") || !ends_in_operator(&out) {
                    out.clear();
                }
                rest = &rest[1..];
            }
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    if let Some(at) = PARTS.iter().filter_map(|part| out.find(part)).min() {
        out.truncate(at);
    }
    out
}

/// The path that stands for what is in the angle brackets of `<T as Trait>::f`, or of `<T>::f`.
fn qualified(inner: &str, deeper: u32) -> String {
    let (own, of) = match split_as(inner) {
        Some((own, of)) => (own, Some(of)),
        None => (inner, None),
    };
    let own = own.trim_start_matches(['&', '*']);
    let own = own.strip_prefix("mut ").or_else(|| own.strip_prefix("const ")).unwrap_or(own);
    let own = if own.starts_with(['[', '(']) { String::new() } else { within(own, deeper) };
    match of {
        _ if own.contains("::") => own,
        Some(of) => within(of, deeper),
        // Only the language's own library has methods of types without a path.
        None => "core".into(),
    }
}

/// Parts `T as Trait` outside of inner brackets.
fn split_as(inner: &str) -> Option<(&str, &str)> {
    let mut depth = 0_i32;
    let mut before = ' ';
    for (at, character) in inner.char_indices() {
        match character {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' if before == '-' => {}
            '>' | ')' | ']' | '}' => depth -= 1,
            ' ' if depth == 0 && inner[at..].starts_with(" as ") => {
                return Some((&inner[..at], &inner[at + 4..]));
            }
            _ => {}
        }
        before = character;
    }
    None
}

/// Whether `out` ends in a name, so that an angle bracket behind it begins template arguments.
fn follows_name(out: &str) -> bool {
    out.ends_with(|last: char| last.is_alphanumeric() || matches!(last, '_' | '}' | ']'))
        || out.ends_with("::") && out.len() > 2
        || ends_in_operator(out.trim_end())
}

/// Whether it is that of an operator.
fn ends_in_operator(out: &str) -> bool {
    let before = |symbol: &str| out.strip_suffix(symbol).is_some_and(|before| before.ends_with("operator"));
    OPERATORS.iter().any(|symbol| before(symbol))
}

/// The length of an operator's name that `rest` begins with, as far as it could be taken for something else.
fn operator(rest: &str, before: &str) -> Option<usize> {
    const WORD: &str = "operator";
    let after = rest.strip_prefix(WORD)?;
    if before.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
        return None;
    }
    if let Some(named) =
        [" new[]", " delete[]", " new", " delete"].iter().find(|named| after.starts_with(**named))
    {
        return Some(WORD.len() + named.len());
    }
    if after.starts_with(' ') {
        // To a type, up to its parameters.
        return Some(rest.find('(').unwrap_or(rest.len()));
    }
    OPERATORS.iter().find(|symbol| after.starts_with(**symbol)).map(|symbol| WORD.len() + symbol.len())
}

/// What is inside of the bracket that `text` begins with, and what comes behind it; all, where it does not end.
fn bracketed(text: &str) -> (&str, &str) {
    let mut open: Vec<char> = Vec::new();
    let mut before = ' ';
    let mut skip = 0;
    for (at, character) in text.char_indices() {
        if at < skip {
            continue;
        }
        if let Some(length) = operator(&text[at..], &text[..at]) {
            skip = at + length;
            before = ' ';
            continue;
        }
        match character {
            '<' | '(' | '[' | '{' => open.push(character),
            // `->`, and a comparison within parentheses.
            '>' if before == '-' || open.last() != Some(&'<') => {}
            '>' | ')' | ']' | '}' => {
                while open.pop().is_some_and(|opened| opened == '<' && character != '>') {}
                if open.is_empty() {
                    return (&text[1..at], &text[at + 1..]);
                }
            }
            _ => {}
        }
        before = character;
    }
    (&text[1..], "")
}

/// `name` with `<...>` in place of long template arguments.
pub fn shortened(name: &str) -> Cow<'_, str> {
    if !name.contains('<') {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if let Some(length) = operator(rest, &out) {
            // A conversion's type has arguments, too.
            let length = if rest.starts_with("operator ") && !rest.starts_with("operator new") {
                "operator ".len()
            } else {
                length
            };
            out.push_str(&rest[..length]);
            rest = &rest[length..];
        } else if first == '<' && follows_name(&out) {
            let (inner, after) = bracketed(rest);
            if inner.chars().count() > LONG {
                out.push_str("<...>");
            } else {
                out.push_str(&rest[..rest.len() - after.len()]);
            }
            rest = after;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_without_types_arguments_and_parameters() {
        for (name, expected) in [
            ("main", "main"),
            ("zmalloc.isra.0", "zmalloc"),
            ("operator new(unsigned long)", "operator new"),
            ("operator new[](unsigned long, std::nothrow_t const&)", "operator new[]"),
            (
                "void std::vector<int, std::allocator<int> >::_M_realloc_insert<int const&>(int*, int const&)",
                "std::vector::_M_realloc_insert",
            ),
            ("std::map<int, (anonymous namespace)::Session>::operator[](int const&)", "std::map::operator[]"),
            ("(anonymous namespace)::Cache::put(int)", "(anonymous namespace)::Cache::put"),
            ("serve(int)::{lambda(Session&)#1}::operator()(Session&) const", "serve::{lambda}::operator()"),
            ("Server::run() const::{lambda()#2}::operator()() const", "Server::run::{lambda}::operator()"),
            ("std::ostream& operator<< <char>(std::ostream&, char const*)", "operator<<"),
            ("bool operator< <int>(A<int> const&, A<int> const&)", "operator<"),
            ("Text::operator std::basic_string<char>() const", "Text::operator std::basic_string<char>"),
            ("decltype(auto) run<int>(int)", "run"),
            ("decltype ((f)(a)) std::__invoke<void (*)(int)>(void (*)(int))", "std::__invoke"),
            ("unsigned long const* find<(Kind)3>(unsigned long)", "find"),
            ("handle(Request*) [clone .cold]", "handle"),
            ("<alloc::vec::Vec<T,A> as core::clone::Clone>::clone", "alloc::vec::Vec::clone"),
            ("<T as alloc::slice::hack::ConvertVec>::to_vec", "alloc::slice::hack::ConvertVec::to_vec"),
            ("<server::Session as core::default::Default>::default", "server::Session::default"),
            ("<&mut server::Session as core::fmt::Write>::write_str", "server::Session::write_str"),
            ("<[T] as server::Keep>::keep", "server::Keep::keep"),
            ("<[u8]>::to_vec", "core::to_vec"),
            ("<alloc::raw_vec::RawVec<u8>>::grow_one", "alloc::raw_vec::RawVec::grow_one"),
            ("alloc::slice::<impl [T]>::to_vec", "alloc::slice::to_vec"),
            ("alloc::vec::Vec<T>::with_capacity::<u8>", "alloc::vec::Vec::with_capacity::"),
            ("server::serve::{{closure}}", "server::serve::{{closure}}"),
            (
                "core::ops::function::FnOnce::call_once{{vtable.shim}}",
                "core::ops::function::FnOnce::call_once{{vtable.shim}}",
            ),
            ("main.(*Server).handle", "main.(*Server).handle"),
            ("py::serve:/srv/app.py", "py::serve:/srv/app.py"),
        ] {
            assert_eq!(bare(name), expected, "{name}");
        }
    }

    #[test]
    fn long_arguments_are_left_out_and_the_rest_stays() {
        for (name, expected) in [
            ("main", "main"),
            ("alloc::vec::Vec<T,A>::push", "alloc::vec::Vec<T,A>::push"),
            (
                "std::_Hashtable<int, std::pair<int const, Session*>, std::allocator<int> >::_M_insert(int, std::less<int>)",
                "std::_Hashtable<...>::_M_insert(int, std::less<int>)",
            ),
            (
                "std::vector<int>::swap(std::vector<int, std::allocator<int> >&)",
                "std::vector<int>::swap(std::vector<...>&)",
            ),
            (
                "<alloc::vec::Vec<server::session::Session> as core::clone::Clone>::clone",
                "<alloc::vec::Vec<...> as core::clone::Clone>::clone",
            ),
            ("bool operator< <std::basic_string<char> >(A const&)", "bool operator< <...>(A const&)"),
            ("f<fn(server::Request) -> server::Answer>::g", "f<...>::g"),
            (
                "Text::operator std::basic_string<char, std::char_traits<char> >()",
                "Text::operator std::basic_string<...>()",
            ),
        ] {
            assert_eq!(shortened(name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_of_nothing_but_brackets_is_gone_through() {
        for (open, close) in [("<", ""), ("<", ">"), ("<a as ", ">"), ("(", ")"), ("{", "}")] {
            let name = open.repeat(65_536 / open.len()) + &close.repeat(20_000);
            let _ = (bare(&name), shortened(&name));
        }
    }

    proptest! {
        #[test]
        fn no_name_is_too_odd(name in "[a-z:<>(){}\\[\\] *&,~é-]{0,40}|(operator|<T as |::|[<>(){} ]|->|é|x){0,12}") {
            bare(&name);
            prop_assert!(shortened(&name).len() <= name.len().max(5));
        }
    }
}
