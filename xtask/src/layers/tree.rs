//! One crate as a tree of modules, read from its root file, and the file that defines what a path names.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::paths::{self, NamePath, Names, Submodule};

/// Modules by number; 0 is the root. Test code and `fuzz.rs` are not in it: they may name what they test.
pub struct Tree {
    modules: Vec<Module>,
}

struct Module {
    /// Where its file stands among the crate's: `["probes", "cut", "mod.rs"]`.
    place: Place,
    parent: usize,
    children: HashMap<String, usize>,
    names: Names,
}

/// Where a module is.
struct Home {
    place: Place,
    /// Where a `#[path]` is looked for.
    beside: PathBuf,
    /// Where its other children are.
    folder: PathBuf,
    /// The modules from the root down to this one.
    inside: Vec<String>,
}

/// A file by the folders that it is in, the last being its own name. `a.rs` beside a folder `a` is `a/mod.rs` here.
pub type Place = Vec<String>;

/// A file names what another defines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    pub from: Place,
    pub to: Place,
    pub name: String,
}

#[derive(Clone, Copy)]
enum Found<'a> {
    Module(usize),
    /// With the module that defines it.
    Item(usize, &'a str),
}

impl Tree {
    /// `read` gives a file's text, or None where there is none.
    ///
    /// # Errors
    /// When a file cannot be parsed, or a module has no file.
    pub fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Self> {
        let names = parsed(root, read)?.with_context(|| format!("no {}", root.display()))?;
        let mut tree = Self { modules: Vec::new() };
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        tree.add(
            0,
            Home { place: vec![name], beside: folder.clone(), folder, inside: Vec::new() },
            names,
            read,
        )?;
        Ok(tree)
    }

    fn add(
        &mut self,
        parent: usize,
        home: Home,
        mut names: Names,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<usize> {
        let number = self.modules.len();
        let Home { place, beside, folder, inside } = home;
        let submodules = std::mem::take(&mut names.modules);
        self.modules.push(Module { place: place.clone(), parent, children: HashMap::new(), names });
        for Submodule { name, file, inline } in submodules {
            if is_test(&name) {
                continue;
            }
            let mut home = Home {
                place: place.clone(),
                beside: beside.clone(),
                folder: folder.join(&name),
                inside: [&inside[..], std::slice::from_ref(&name)].concat(),
            };
            let names = if let Some(names) = inline {
                names
            } else {
                let (path, names) = located(&name, file.as_deref(), &beside, &folder, read)?;
                home.place = if names.modules.iter().any(|one| one.inline.is_none() && !is_test(&one.name)) {
                    [&home.inside[..], &["mod.rs".to_owned()]].concat()
                } else {
                    [&inside[..], &[format!("{name}.rs")]].concat()
                };
                path.parent().unwrap_or(Path::new("")).clone_into(&mut home.beside);
                names
            };
            let child = self.add(number, home, names, read)?;
            self.modules[number].children.insert(name, child);
        }
        Ok(number)
    }

    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.modules.iter().map(|module| &module.place)
    }

    /// What each file names of others. A module's re-exports of what is below it are no arrows.
    pub fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (number, module) in self.modules.iter().enumerate() {
            let imports = module.names.imports.iter().map(|import| (&import.path, import.exported));
            for (path, exported) in imports.chain(module.names.paths.iter().map(|path| (path, false))) {
                let Some(Found::Item(home, name)) = self.resolve(number, path, true, &mut HashSet::new())
                else {
                    continue;
                };
                let to = &self.modules[home].place;
                if *to != module.place && !(exported && self.is_below(home, number)) {
                    arrows.push(Arrow { from: module.place.clone(), to: to.clone(), name: name.to_owned() });
                }
            }
        }
        arrows.sort();
        arrows.dedup();
        arrows
    }

    fn is_below(&self, mut module: usize, above: usize) -> bool {
        while module != 0 {
            module = self.modules[module].parent;
            if module == above {
                return true;
            }
        }
        false
    }

    /// `whole`: the path ends here, so that its last name may be an item's as well as a module's.
    fn resolve<'a>(
        &'a self,
        from: usize,
        path: &'a NamePath,
        whole: bool,
        seen: &mut HashSet<(usize, &'a str)>,
    ) -> Option<Found<'a>> {
        let mut at = Found::Module(from);
        for (index, name) in path.iter().enumerate() {
            let Found::Module(module) = at else { break };
            let last = whole && index + 1 == path.len();
            at = match name.as_str() {
                "crate" => Found::Module(0),
                "self" => Found::Module(module),
                "super" => Found::Module(self.modules[module].parent),
                name => self.member(module, name, last, seen)?,
            };
        }
        Some(at)
    }

    fn member<'a>(
        &'a self,
        module: usize,
        name: &'a str,
        last: bool,
        seen: &mut HashSet<(usize, &'a str)>,
    ) -> Option<Found<'a>> {
        let Module { children, names, .. } = &self.modules[module];
        let child = children.get(name).map(|child| Found::Module(*child));
        let item =
            names.items.iter().find(|item| *item == name).map(|item| Found::Item(module, item.as_str()));
        let here = if last { item.or(child) } else { child.or(item) };
        if here.is_some() || !seen.insert((module, name)) {
            return here;
        }
        let import = names.imports.iter().find(|import| import.name == name);
        if let Some(import) = import {
            return self.resolve(module, &import.path, last, seen);
        }
        names.globs.iter().find_map(|glob| match self.resolve(module, glob, false, seen)? {
            Found::Module(other) if other != module => self.member(other, name, last, seen),
            _ => None,
        })
    }
}

fn is_test(module: &str) -> bool {
    module == "tests" || module.ends_with("_tests") || module == "fuzz"
}

fn parsed(path: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Option<Names>> {
    let Some(text) = read(path) else { return Ok(None) };
    let file = syn::parse_file(&text).with_context(|| format!("failed to parse {}", path.display()))?;
    Ok(Some(paths::of_file(&file)))
}

fn located(
    name: &str,
    file: Option<&str>,
    beside: &Path,
    folder: &Path,
    read: &dyn Fn(&Path) -> Option<String>,
) -> Result<(PathBuf, Names)> {
    let candidates = match file {
        Some(file) => vec![beside.join(file)],
        None => vec![folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")],
    };
    for path in candidates {
        if let Some(names) = parsed(&path, read)? {
            return Ok((path, names));
        }
    }
    anyhow::bail!("no file of module {name} in {}", folder.display())
}
