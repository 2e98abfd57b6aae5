//! The paths that a file's code names: in `use` trees, in code, in attributes, and in what is handed to macros.

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, File, Item, ItemMacro, ItemMod, ItemUse, Macro, Meta, UseTree, Visibility,
    ext::IdentExt as _,
    visit::{self, Visit},
};

/// `crate::a::b` as its segments. A leading `::` is an empty one, which no module has.
pub type NamePath = Vec<String>;

/// What stands in one module, be it a file or `mod x { .. }`.
#[derive(Default)]
pub struct Names {
    /// Defined here.
    pub items: Vec<String>,
    pub imports: Vec<Import>,
    /// `use x::*`
    pub globs: Vec<NamePath>,
    /// Named by code, not by `use`.
    pub paths: Vec<NamePath>,
    pub modules: Vec<Submodule>,
}

pub struct Import {
    /// What it is called here.
    pub name: String,
    pub path: NamePath,
    /// Of a `pub use`.
    pub exported: bool,
}

pub struct Submodule {
    pub name: String,
    /// What `#[path]` names.
    pub file: Option<String>,
    /// None where it is a file of its own.
    pub inline: Option<Names>,
}

/// All but what is `#[cfg(test)]`.
pub fn of_file(file: &File) -> Names {
    let mut names = Names::default();
    file.items.iter().for_each(|item| names.visit_item(item));
    names
}

impl Names {
    fn imported(&mut self, tree: &UseTree, before: &[String], exported: bool) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.imported(&path.tree, &with(path.ident.unraw().to_string()), exported),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.imported(tree, before, exported));
            }
            UseTree::Glob(_) => self.globs.push(before.to_vec()),
            UseTree::Name(name) if name.ident == "self" => {
                let name = before.last().cloned().unwrap_or_default();
                self.imports.push(Import { name, path: before.to_vec(), exported });
            }
            UseTree::Name(name) => {
                let name = name.ident.unraw().to_string();
                self.imports.push(Import { path: with(name.clone()), name, exported });
            }
            UseTree::Rename(rename) => {
                let path = if rename.ident == "self" {
                    before.to_vec()
                } else {
                    with(rename.ident.unraw().to_string())
                };
                self.imports.push(Import { name: rename.rename.to_string(), path, exported });
            }
        }
    }

    /// Macros may do anything with what they are given; what looks like a path there is taken for one.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: NamePath = Vec::new();
        // Colons since the path's last name.
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.named(&mut path);
                    }
                    path.push(ident.unraw().to_string());
                }
                TokenTree::Group(group) => {
                    self.named(&mut path);
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.named(&mut path),
            }
            colons = 0;
        }
        self.named(&mut path);
    }

    fn named(&mut self, path: &mut NamePath) {
        if !path.is_empty() {
            self.paths.push(std::mem::take(path));
        }
    }
}

impl<'a> Visit<'a> for Names {
    fn visit_item(&mut self, item: &'a Item) {
        if attributes(item).iter().any(is_test) {
            return;
        }
        self.items.extend(defined(item));
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        if !function.attrs.iter().any(is_test) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'a ItemMod) {
        let inline = module.content.as_ref().map(|(_, items)| {
            let mut names = Self::default();
            items.iter().for_each(|item| names.visit_item(item));
            names
        });
        let file = module.attrs.iter().find_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
                syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
        self.modules.push(Submodule { name: module.ident.unraw().to_string(), file, inline });
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        let before: &[String] = if item.leading_colon.is_some() { &[String::new()] } else { &[] };
        self.imported(&item.tree, before, !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let mut segments: NamePath =
            path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect();
        if path.leading_colon.is_some() {
            segments.insert(0, String::new());
        }
        self.paths.push(segments);
        visit::visit_path(self, path);
    }

    fn visit_item_macro(&mut self, item: &'a ItemMacro) {
        self.visit_macro(&item.mac);
    }

    fn visit_macro(&mut self, invoked: &'a Macro) {
        self.visit_path(&invoked.path);
        self.tokens(invoked.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'a Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    fn visit_visibility(&mut self, _: &'a Visibility) {}
}

fn is_test(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else { return false };
    let condition: String = list.tokens.to_string().split_whitespace().collect();
    list.path.is_ident("cfg")
        && (condition == "test" || condition.starts_with("all(test") || condition.starts_with("any(test"))
}

fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.unraw().to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
