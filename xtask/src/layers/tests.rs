use std::{collections::HashMap, path::Path};

use super::{
    circles, order,
    tree::{Arrow, Tree},
};

fn tree(files: &[(&str, &str)]) -> Tree {
    let files: HashMap<_, _> =
        files.iter().map(|(name, text)| (Path::new(*name), (*text).to_owned())).collect();
    Tree::read(Path::new("lib.rs"), &|path| files.get(path).cloned()).unwrap()
}

fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    let shown = |arrow: &Arrow| format!("{} -> {}: {}", arrow.from.join("/"), arrow.to.join("/"), arrow.name);
    tree(files).arrows().iter().map(shown).collect()
}

fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    circles::find(&tree(files).arrows()).into_iter().map(|circle| circle.among).collect()
}

#[test]
fn a_reexport_is_seen_through() {
    let files = [
        ("lib.rs", "mod bpf; mod user; mod other;"),
        ("bpf/mod.rs", "mod load; pub use load::Tracer;"),
        ("bpf/load.rs", "pub struct Tracer;"),
        ("user.rs", "use crate::bpf::Tracer;"),
        ("other.rs", "use crate::bpf; fn f(_: bpf::Tracer) {}"),
    ];
    assert_eq!(arrows(&files), ["other.rs -> bpf/load.rs: Tracer", "user.rs -> bpf/load.rs: Tracer"]);
}

#[test]
fn paths_in_code_macros_and_attributes_count() {
    let files = [
        ("lib.rs", "mod a; mod b { pub fn inline() {} }"),
        ("a/mod.rs", "mod x; mod y; pub fn up() {}"),
        (
            "a/x.rs",
            "fn f() { println!(\"{}\", super::y::g(1)); crate::b::inline(); } fn g() -> Vec<super::y::T> {}",
        ),
        ("a/y.rs", "#[arg(value_parser = super::up)] pub struct T; pub fn g() {}"),
    ];
    let expected =
        ["a/x.rs -> a/y.rs: T", "a/x.rs -> a/y.rs: g", "a/x.rs -> lib.rs: inline", "a/y.rs -> a/mod.rs: up"];
    assert_eq!(arrows(&files), expected);
}

#[test]
fn a_macro_is_followed_by_its_path_and_in_its_body() {
    let files = [
        ("lib.rs", "mod maps; mod user; mod ground;"),
        (
            "maps.rs",
            "macro_rules! setting { ($f:ident) => { $crate::ground::settings().$f } } pub(crate) use setting;",
        ),
        ("ground.rs", "pub fn settings() {}"),
        ("user.rs", "fn f() { crate::maps::setting!(x); }"),
    ];
    assert_eq!(arrows(&files), ["maps.rs -> ground.rs: settings", "user.rs -> maps.rs: setting"]);
}

#[test]
fn globs_and_renames_are_followed() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::*; use crate::b::Two as Other; fn f(_: One) {}"),
        ("b.rs", "pub struct One; pub struct Two; pub struct Three;"),
    ];
    assert_eq!(arrows(&files), ["a.rs -> b.rs: One", "a.rs -> b.rs: Two"]);
}

#[test]
fn circles_of_files_are_found_and_their_arrows_named() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "pub struct C(crate::a::A);"),
        ("d.rs", "use crate::a::A;"),
    ];
    let found = circles::find(&tree(&files).arrows());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].among, ["a.rs", "b.rs", "c.rs"]);
    assert_eq!(found[0].arrows, ["a.rs -> b.rs: B", "b.rs -> c.rs: C", "c.rs -> a.rs: A"]);
}

#[test]
fn folders_make_circles_though_their_files_do_not() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod low; mod high;"),
        ("a/low.rs", "pub struct Low;"),
        ("a/high.rs", "use crate::b::B;"),
        ("b.rs", "use crate::a::low::Low; pub struct B;"),
    ];
    assert_eq!(circles(&files), [["a", "b.rs"]]);
}

#[test]
fn a_child_that_takes_from_its_parent_what_uses_it_is_a_circle() {
    let parent = "mod child; pub struct Own; fn f() { child::work(); }";
    let child = "use super::Own; pub fn work() {}";
    assert_eq!(
        circles(&[("lib.rs", "mod a;"), ("a/mod.rs", parent), ("a/child.rs", child)]),
        [["a/child.rs", "a/mod.rs"]]
    );
    let declares = "mod child; pub use child::work; pub struct Own;";
    let none: [Vec<String>; 0] = [];
    assert_eq!(circles(&[("lib.rs", "mod a;"), ("a/mod.rs", declares), ("a/child.rs", child)]), none);
}

#[test]
fn test_code_is_not_held_to_it() {
    let files = [
        ("lib.rs", "mod a; mod b; mod fuzz;"),
        ("a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; } #[cfg(test)] use crate::b::B;"),
        ("b.rs", "use crate::a::A; pub struct B; #[cfg(not(test))] fn f(_: A) {}"),
        ("fuzz.rs", "use crate::b::B;"),
    ];
    assert_eq!(arrows(&files), ["b.rs -> a.rs: A"]);
}

#[test]
fn arrows_up_the_layers_are_found() {
    let document = "text\n```layers heaptrace/src\nroof/    the top,\n         ground.rs and all\n\nleft/    one\nright.rs another\n\nground.rs\n```\n";
    let files = [
        ("lib.rs", "mod roof; mod left; mod right; mod ground; mod new;"),
        ("roof/mod.rs", "mod x;"),
        ("roof/x.rs", "use crate::left::y::Y; use crate::ground::G; pub struct Roof;"),
        ("left/mod.rs", "pub mod y;"),
        ("left/y.rs", "use crate::right::R; pub struct Y;"),
        ("right.rs", "use crate::roof::x::Roof; pub struct R;"),
        ("ground.rs", "pub struct G;"),
        ("new.rs", ""),
    ];
    let orders = order::read(document);
    let [order] = &orders[..] else { panic!("{orders:?}") };
    assert_eq!(order.sources, "heaptrace/src");
    let entries = ["roof", "left", "right.rs", "new.rs"];
    let broken = order.broken_by(&tree(&files).arrows(), entries.into_iter());
    let expected = [
        "new.rs is in no layer",
        "ground.rs is in the layers, but not in heaptrace/src",
        "left/y.rs -> right.rs: R",
        "right.rs -> roof/x.rs: Roof",
    ];
    assert_eq!(broken, expected);
}
