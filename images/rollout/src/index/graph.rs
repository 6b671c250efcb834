//! Which function calls which, as far as names tell: for one commit, both ways. A name that several functions have is looked for in the caller's own
//! type and file first, then in what its file imports and in its folder, then everywhere; how many it could have meant is kept with each edge.

use std::collections::HashMap;

use sera_crds::contract::FunctionKind;
use sera_crds::values::Language;

use super::grammar::Receiver;
use super::parse::{Definition, FileFunctions};
use super::symbols::{Symbol, Symbols};

/// A call that could have meant more functions than this says nothing, and has no edges.
const MAX_CANDIDATES: usize = 8;

/// A file of a commit, with what it has.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    pub(super) path: &'a str,
    pub(super) has: &'a FileFunctions,
}

/// An edge: the other function's number, and how many the call could have meant.
pub(super) type Edge = (u32, u32);

/// The calls within one commit. Functions are numbered as they come, file by file.
pub(super) struct Graph {
    /// For each function, what it calls.
    pub(super) calls: Vec<Vec<Edge>>,
    /// For each function, what calls it.
    pub(super) callers: Vec<Vec<Edge>>,
}

impl Graph {
    /// Resolves all calls among these files, which are sorted by path.
    pub(super) fn of(files: &[File<'_>], symbols: &Symbols) -> Self {
        let table = Table::of(files, symbols);
        let calls: Vec<Vec<Edge>> = (0..table.functions.len()).map(|caller| table.calls(caller)).collect();
        let mut callers = vec![Vec::new(); calls.len()];
        for (caller, edges) in calls.iter().enumerate() {
            for (callee, candidates) in edges {
                if let Some(callers) = callers.get_mut(*callee as usize) {
                    callers.push((number(caller), *candidates));
                }
            }
        }
        callers.iter_mut().for_each(|edges: &mut Vec<Edge>| sort(edges));
        Self { calls, callers }
    }
}

/// The surest first, then as the functions come.
fn sort(edges: &mut [Edge]) {
    edges.sort_unstable_by_key(|(other, candidates)| (*candidates, *other));
}

/// The functions of a commit, to be looked up.
struct Table<'a> {
    files: &'a [File<'a>],
    functions: Vec<(usize, &'a Definition)>,
    by_name: HashMap<(Family, Symbol), Vec<u32>>,
    /// How each file is called by those that import it: by its own name, or by its folder's.
    called: Vec<[Symbol; 2]>,
    folders: Vec<Symbol>,
}

/// Languages whose functions call each other by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    Alone(Language),
    C,
    Java,
    JavaScript,
}

impl Family {
    fn of(language: Language) -> Self {
        match language {
            Language::C | Language::Cpp => Self::C,
            Language::Java | Language::Kotlin | Language::Scala => Self::Java,
            Language::JavaScript | Language::TypeScript => Self::JavaScript,
            language => Self::Alone(language),
        }
    }
}

impl<'a> Table<'a> {
    fn of(files: &'a [File<'a>], symbols: &Symbols) -> Self {
        let mut functions = Vec::new();
        let mut by_name: HashMap<_, Vec<u32>> = HashMap::new();
        for (file, File { has, .. }) in files.iter().enumerate() {
            for definition in &has.functions {
                let place = number(functions.len());
                functions.push((file, definition));
                let family = Family::of(has.language);
                by_name.entry((family, definition.simple)).or_default().push(place);
                // A constructor is called by its type's name.
                let is_constructor = definition.kind == FunctionKind::Constructor;
                if let Some(owner) = definition.owner.filter(|owner| is_constructor && *owner != definition.simple) {
                    by_name.entry((family, owner)).or_default().push(place);
                }
            }
        }
        let called = files.iter().map(|file| names_of(file.path).map(|name| symbols.of(name))).collect();
        let folders = files.iter().map(|file| symbols.of(folder(file.path))).collect();
        Self { files, functions, by_name, called, folders }
    }

    /// What a function calls: each callee once, the surest first.
    fn calls(&self, caller: usize) -> Vec<Edge> {
        let mut edges: HashMap<u32, u32> = HashMap::new();
        for (receiver, name) in &self.functions[caller].1.calls {
            let (found, candidates) = self.resolve(caller, *receiver, *name);
            if candidates <= MAX_CANDIDATES {
                for callee in found {
                    let known = edges.entry(callee).or_insert(u32::MAX);
                    *known = number(candidates).min(*known);
                }
            }
        }
        let mut edges: Vec<Edge> = edges.into_iter().collect();
        sort(&mut edges);
        edges
    }

    /// The functions that a call most likely means, and how many it could.
    fn resolve(&self, caller: usize, receiver: Receiver<Symbol>, name: Symbol) -> (Vec<u32>, usize) {
        let (file, definition) = self.functions[caller];
        let has = self.files[file].has;
        let Some(namesakes) = self.by_name.get(&(Family::of(has.language), name)) else { return (Vec::new(), 0) };
        let methods = || self.only(namesakes, |_, callee| callee.owner.is_some());
        match receiver {
            Receiver::Own => {
                let own = self.siblings(namesakes, file, definition);
                if own.is_empty() { self.any_of(methods(), file) } else { counted(own) }
            }
            Receiver::Super => self
                .any_of(self.only(namesakes, |place, callee| callee.owner.is_some() && place as usize != caller), file),
            Receiver::None => {
                let own = if has.implicit_receiver { self.siblings(namesakes, file, definition) } else { Vec::new() };
                if !own.is_empty() {
                    return counted(own);
                }
                let nested = self.only(namesakes, |place, callee| {
                    callee.scope == Some(definition.name) && self.functions[place as usize].0 == file
                });
                if !nested.is_empty() {
                    return counted(nested);
                }
                let callable = self.only(namesakes, |_, callee| {
                    // By its own name a method can only be called where its object goes without saying; a constructor is called by its type's.
                    callee.owner.is_none() || has.implicit_receiver || callee.simple != name
                });
                counted(self.nearest(callable, file))
            }
            Receiver::Named(object) => {
                let owned = self.only(namesakes, |_, callee| callee.owner == Some(object));
                if !owned.is_empty() {
                    return counted(self.nearest(owned, file));
                }
                let in_module = self.only(namesakes, |place, callee| {
                    callee.owner.is_none() && self.called[self.functions[place as usize].0].contains(&object)
                });
                if !in_module.is_empty() {
                    return counted(self.nearest(in_module, file));
                }
                // A module that is not of this repository.
                if has.imports.contains(&object) {
                    return (Vec::new(), 0);
                }
                self.any_of(methods(), file)
            }
            Receiver::Unknown => self.any_of(methods(), file),
        }
    }

    /// Functions of the same type as `definition`, in the same file.
    fn siblings(&self, namesakes: &[u32], file: usize, definition: &Definition) -> Vec<u32> {
        if definition.owner.is_none() {
            return Vec::new();
        }
        self.only(namesakes, |place, callee| {
            callee.scope == definition.scope && self.functions[place as usize].0 == file
        })
    }

    fn only(&self, namesakes: &[u32], which: impl Fn(u32, &Definition) -> bool) -> Vec<u32> {
        let is_one = |place: &u32| which(*place, self.functions[*place as usize].1);
        namesakes.iter().copied().filter(is_one).collect()
    }

    /// Of functions that are all as likely by what is known of the object, those that are nearest; all of them count.
    fn any_of(&self, candidates: Vec<u32>, file: usize) -> (Vec<u32>, usize) {
        let count = candidates.len();
        if count > MAX_CANDIDATES { (Vec::new(), count) } else { (self.nearest(candidates, file), count) }
    }

    /// Those in the same file; else those in files that are imported or in the same folder; else all.
    fn nearest(&self, candidates: Vec<u32>, file: usize) -> Vec<u32> {
        let place = |callee: &u32| self.functions[*callee as usize].0;
        let here: Vec<u32> = candidates.iter().copied().filter(|callee| place(callee) == file).collect();
        if !here.is_empty() {
            return here;
        }
        let imports = &self.files[file].has.imports;
        let is_near = |callee: &u32| {
            let other = place(callee);
            self.folders[other] == self.folders[file] || self.called[other].iter().any(|name| imports.contains(name))
        };
        let near: Vec<u32> = candidates.iter().copied().filter(is_near).collect();
        if near.is_empty() { candidates } else { near }
    }
}

fn counted(found: Vec<u32>) -> (Vec<u32>, usize) {
    let count = found.len();
    (found, count)
}

/// How others call a file: by its name without its ending, or by its folder's name.
fn names_of(path: &str) -> [&str; 2] {
    let mut parts = path.rsplit('/');
    let file = parts.next().unwrap_or_default();
    let stem = file.split('.').next().unwrap_or(file);
    let folder = parts.next().unwrap_or(stem);
    // What a folder is called by is its own code, not that of its other files.
    let stands_for_folder =
        matches!(stem, "__init__" | "mod" | "lib" | "index") || file.rsplit('.').next() == Some("go");
    if stands_for_folder { [stem, folder] } else { [stem, stem] }
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
