//! The languages that are indexed: by which names their files are known, which grammar reads them, and which nodes of its trees mean something. What
//! a node means is asked of a small function, a module for each family of languages; walking the trees is not done here.

mod c_family;
mod call;
mod csharp;
mod go;
mod java;
mod javascript;
mod kotlin;
mod php;
mod python;
mod ruby;
mod rust;
mod scala;
mod swift;

use std::collections::HashMap;
use std::sync::LazyLock;

use sera_crds::contract::FunctionKind;
use sera_crds::values::Language;
use tree_sitter::Node;

pub(super) use call::{Call, Receiver};

/// What a node means for the index.
pub(super) enum Found {
    /// Nothing by itself; what is below it is looked at.
    Nothing,
    /// It is a test: neither it nor anything below it counts.
    Test,
    /// What is below it is named after it.
    Scope(Scope),
    /// A function with a body.
    Function(Function),
    /// A call.
    Call(Call),
    /// It names other files or what is in them.
    Import,
}

/// Something that functions are in.
pub(super) struct Scope {
    /// Its name; may have several parts, with dots between them.
    pub(super) name: String,
    /// Whether its functions are methods.
    pub(super) is_type: bool,
}

/// A function, as far as its own node tells.
#[derive(Default)]
pub(super) struct Function {
    /// Its name; may begin with what it belongs to, with dots between the parts.
    pub(super) name: String,
    /// What it is, where its node tells; else where it stands decides.
    pub(super) kind: Option<FunctionKind>,
    /// What it calls the object that it belongs to, where it chooses that itself.
    pub(super) own_name: Option<String>,
}

/// Asks what a node means.
pub(super) type Hook = for<'t> fn(Node<'t>, Text<'_>) -> Found;

/// A language.
pub(super) struct Grammar {
    /// Which it is.
    pub(super) language: Language,
    /// How its files' names end, after the last dot.
    extensions: &'static [&'static str],
    /// Its grammar.
    parser: fn() -> tree_sitter::Language,
    /// The nodes that are asked; several lists, where languages share one.
    hooks: &'static [&'static [(&'static str, Hook)]],
    /// Whether a method of that name, of that type, makes or ends objects.
    constructs: fn(name: &str, owner: &str) -> bool,
    /// Whether a call without a receiver can mean a method of the same object.
    pub(super) implicit_receiver: bool,
    /// Nodes at a function's beginning that are not counted as its first line.
    annotations: &'static [&'static str],
}

static GRAMMARS: [&Grammar; 15] = [
    &c_family::C,
    &c_family::CPP,
    &csharp::CSHARP,
    &go::GO,
    &java::JAVA,
    &javascript::JAVASCRIPT,
    &javascript::TSX,
    &javascript::TYPESCRIPT,
    &kotlin::KOTLIN,
    &php::PHP,
    &python::PYTHON,
    &ruby::RUBY,
    &rust::RUST,
    &scala::SCALA,
    &swift::SWIFT,
];

/// How a file is to be read, as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// By this entry of the table.
    Of(usize),
    /// As C or as C++; only the text tells.
    Header,
}

impl Form {
    /// The form of a file by its name; none where no language is known by it.
    pub(super) fn of(path: &str) -> Option<Self> {
        static BY_EXTENSION: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| {
            let entries = GRAMMARS.iter().enumerate();
            entries.flat_map(|(at, grammar)| grammar.extensions.iter().map(move |extension| (*extension, at))).collect()
        });
        let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
        if extension == "h" { Some(Self::Header) } else { BY_EXTENSION.get(extension).copied().map(Self::Of) }
    }

    /// Whether it may turn out to be in one of these languages.
    pub(super) fn may_be(self, languages: &[Language]) -> bool {
        match self {
            Self::Of(at) => languages.contains(&GRAMMARS[at].language),
            Self::Header => languages.contains(&Language::C) || languages.contains(&Language::Cpp),
        }
    }

    /// The language that it is in; none where the text is of one that is not known after all.
    pub(super) fn settle(self, text: &str) -> Option<&'static Compiled> {
        let grammar = match self {
            Self::Of(at) => GRAMMARS[at].language,
            Self::Header => c_family::header(text)?,
        };
        COMPILED.iter().find(|compiled| match self {
            Self::Of(at) => std::ptr::eq(compiled.grammar, GRAMMARS[at]),
            Self::Header => compiled.grammar.language == grammar,
        })
    }
}

/// A language with its hooks by the numbers of its nodes.
pub(super) struct Compiled {
    pub(super) grammar: &'static Grammar,
    pub(super) language: tree_sitter::Language,
    hooks: Vec<Option<Hook>>,
}

static COMPILED: LazyLock<Vec<Compiled>> = LazyLock::new(|| GRAMMARS.iter().map(|grammar| grammar.compile()).collect());

impl Grammar {
    fn compile(&'static self) -> Compiled {
        let language = (self.parser)();
        let hook = |id: usize| {
            let id = u16::try_from(id).ok().filter(|id| language.node_kind_is_named(*id))?;
            let kind = language.node_kind_for_id(id)?;
            self.hooks.iter().copied().flatten().find(|(hooked, _)| *hooked == kind).map(|(_, hook)| *hook)
        };
        let hooks = (0..language.node_kind_count()).map(hook).collect();
        Compiled { grammar: self, language, hooks }
    }

    /// What a function is, by where it stands: `owner` is the type that it belongs to.
    pub(super) fn kind(&self, name: &str, owner: Option<&str>) -> FunctionKind {
        match owner {
            None => FunctionKind::Function,
            Some(owner) if (self.constructs)(name, owner) => FunctionKind::Constructor,
            Some(_) => FunctionKind::Method,
        }
    }

    /// The line that a function's own text begins on, counted from 0: without annotations and what else stands before it.
    pub(super) fn first_line(&self, node: Node<'_>) -> usize {
        let mut node = node;
        loop {
            let is_annotation = |child: &Node<'_>| self.annotations.contains(&child.kind()) || child.is_extra();
            let mut cursor = node.walk();
            let first = node.children(&mut cursor).find(|child| {
                let modifiers_only = child.kind() == "modifiers"
                    && child.child_count() > 0
                    && child.children(&mut child.walk()).all(|inner| is_annotation(&inner));
                !is_annotation(child) && !modifiers_only
            });
            match first {
                Some(child) if child.start_byte() > node.start_byte() || child.kind() == "modifiers" => node = child,
                _ => return node.start_position().row,
            }
        }
    }
}

impl Compiled {
    /// What a node means.
    pub(super) fn ask(&self, node: Node<'_>, text: Text<'_>) -> Found {
        match self.hooks.get(usize::from(node.kind_id())) {
            Some(Some(hook)) => hook(node, text),
            _ => Found::Nothing,
        }
    }
}

/// The text of a file.
#[derive(Clone, Copy)]
pub(super) struct Text<'s>(pub(super) &'s str);

impl<'s> Text<'s> {
    /// The text of a node.
    pub(super) fn of(self, node: Node<'_>) -> &'s str {
        self.0.get(node.byte_range()).unwrap_or_default()
    }

    /// The text of a child.
    fn field(self, node: Node<'_>, name: &str) -> Option<&'s str> {
        node.child_by_field_name(name).map(|child| self.of(child)).filter(|text| !text.is_empty())
    }
}

/// A function whose node has its name, and a body where it is more than a declaration.
fn function(node: Node<'_>, text: Text<'_>) -> Found {
    match (node.child_by_field_name("body"), text.field(node, "name")) {
        (Some(_), Some(name)) => Found::Function(Function { name: name.to_owned(), ..Function::default() }),
        _ => Found::Nothing,
    }
}

/// A constructor or destructor, for nodes that are nothing else.
fn constructor(node: Node<'_>, text: Text<'_>) -> Found {
    match function(node, text) {
        Found::Function(found) => Found::Function(Function { kind: Some(FunctionKind::Constructor), ..found }),
        found => found,
    }
}

/// A type whose node has its name.
fn named_type(node: Node<'_>, text: Text<'_>) -> Found {
    text.field(node, "name").map_or(Found::Nothing, |name| scope(name, true))
}

/// A module or namespace whose node has its name.
fn named_module(node: Node<'_>, text: Text<'_>) -> Found {
    text.field(node, "name").map_or(Found::Nothing, |name| scope(name, false))
}

fn scope(name: &str, is_type: bool) -> Found {
    Found::Scope(Scope { name: dotted(name), is_type })
}

/// An import, or whatever else names other files.
fn import(_: Node<'_>, _: Text<'_>) -> Found {
    Found::Import
}

/// A call whose node has what is called in the field `function`.
fn call(node: Node<'_>, text: Text<'_>) -> Found {
    text.field(node, "function").and_then(call::callee).map_or(Found::Nothing, Found::Call)
}

/// A call of a type's constructor, which stands in that field.
fn construction(node: Node<'_>, text: Text<'_>, field: &str) -> Found {
    let callee = text.field(node, field).and_then(call::callee);
    callee.map_or(Found::Nothing, |callee| Found::Call(Call { receiver: Receiver::None, ..callee }))
}

/// A name with dots between its parts, and without type arguments: `a::b::Foo<T>` becomes `a.b.Foo`.
fn dotted(name: &str) -> String {
    let plain = name.split(['<', '[']).next().unwrap_or(name);
    plain.replace("::", ".").replace('\\', ".").trim_matches(['.', ' ']).to_owned()
}

/// For languages in which no name makes a method a constructor.
fn constructs_nothing(_: &str, _: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_of_the_api_has_a_grammar_and_every_hook_a_node() {
        for language in Language::ALL {
            assert!(GRAMMARS.iter().any(|grammar| grammar.language == *language), "{language}");
        }
        for grammar in GRAMMARS {
            let language = (grammar.parser)();
            for (kind, _) in grammar.hooks.iter().copied().flatten() {
                assert_ne!(language.id_for_node_kind(kind, true), 0, "{} has no node '{kind}'", grammar.language);
            }
        }
    }

    #[test]
    fn a_file_is_known_by_the_end_of_its_name() {
        let language = |path: &str| Form::of(path)?.settle("").map(|compiled| compiled.grammar.language);
        assert_eq!(language("a/b.py"), Some(Language::Python));
        assert_eq!(language("a.b/c.tsx"), Some(Language::TypeScript));
        assert_eq!(language("x.kts"), Some(Language::Kotlin));
        for other in ["a.py/README", "py", ".py/x", "a.txt"] {
            assert_eq!(language(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_is_what_its_text_says() {
        let language = |text: &str| Form::of("a.h").unwrap().settle(text).map(|compiled| compiled.grammar.language);
        assert_eq!(language("int f(void);\n"), Some(Language::C));
        assert_eq!(language("namespace a {\nint f();\n}\n"), Some(Language::Cpp));
        assert_eq!(language("@interface A : B\n@end\n"), None);
        assert_eq!(language("/* no class at all */\nint f(void);\n"), Some(Language::C));
    }
}
