//! What one file has: its functions, what they call, and which names it imports. A pure function of the text; what the names mean in the repository
//! is found out in `graph`.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use sera_crds::contract::{FunctionKind, SkipReason};
use sera_crds::values::Language;
use sha2::{Digest, Sha256};
use tree_sitter::{Node, ParseOptions, Parser, Tree, TreeCursor};

use super::eligible::{Eligible, is_generated, is_minified};
use super::grammar::{Compiled, Form, Found, Function, Receiver, Text};
use super::symbols::{Symbol, Symbols};

/// How far git looks for a NUL byte to tell binary files, in bytes; the same here.
const BINARY_PREFIX: usize = 8000;
/// How the pointers begin that Git LFS puts in a file's place.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// The most of an import that is read, in bytes.
const MAX_IMPORT: usize = 4096;
/// When parsing is given up, in hundreds of the parser's steps. A megabyte of ordinary code takes some ten thousand; a count, other than a clock,
/// ends the same on every machine.
const MAX_STEPS: u32 = 200_000;

/// How many functions and types may stand within each other. People write a dozen; each has all that is around it in its name and all that is within it
/// in its text, so that of a file's depth memory and time are the square.
const MAX_NESTED: usize = 128;

/// What became of a file.
pub(super) enum Outcome {
    Read(FileFunctions),
    Skipped(SkipReason),
}

/// What a file has.
pub(super) struct FileFunctions {
    pub(super) language: Language,
    /// Whether a call without a receiver can mean a method of the same object.
    pub(super) implicit_receiver: bool,
    /// Its functions, by their first lines.
    pub(super) functions: Vec<Definition>,
    /// The words of its imports.
    pub(super) imports: Vec<Symbol>,
}

/// A function.
pub(super) struct Definition {
    /// Its name with what surrounds it: `Session.close`.
    pub(super) name: Symbol,
    /// Its last part.
    pub(super) simple: Symbol,
    /// All but the last part; nothing where it stands alone.
    pub(super) scope: Option<Symbol>,
    /// The type that it belongs to: the last part of `scope`.
    pub(super) owner: Option<Symbol>,
    pub(super) kind: FunctionKind,
    /// First and last line, from 1.
    pub(super) lines: (u32, u32),
    /// The beginning of the sha256 of its text.
    pub(super) digest: [u8; 8],
    /// What it calls, each once.
    pub(super) calls: Vec<(Receiver<Symbol>, Symbol)>,
}

/// The parsers of one thread.
#[derive(Default)]
pub(super) struct Parsers(HashMap<Language, Parser>);

/// Reads a file. `own_text`: whether what programs write is to be known by its text.
pub(super) fn read(
    parsers: &mut Parsers,
    symbols: &Symbols,
    eligible: &Eligible,
    (form, own_text): (Form, bool),
    content: &[u8],
) -> Outcome {
    if content[..content.len().min(BINARY_PREFIX)].contains(&0) {
        return Outcome::Skipped(SkipReason::Binary);
    }
    if content.starts_with(LFS_POINTER) {
        return Outcome::Skipped(SkipReason::LfsPointer);
    }
    // What is not UTF-8 in it is hardly code; lines stay what they are.
    let text = String::from_utf8_lossy(content);
    let Some(compiled) = form.settle(&text) else { return Outcome::Skipped(SkipReason::UnknownLanguage) };
    let language = compiled.grammar.language;
    if !eligible.wants(language) {
        return Outcome::Skipped(SkipReason::OtherLanguage);
    }
    if own_text && is_generated(language, &text) {
        return Outcome::Skipped(SkipReason::Generated);
    }
    if own_text && is_minified(language, &text) {
        return Outcome::Skipped(SkipReason::Minified);
    }
    let tree = parsers.parse(compiled, &text);
    let found = tree.and_then(|tree| Walk::new(compiled, Text(&text), symbols).through(&tree));
    found.map_or(Outcome::Skipped(SkipReason::Unparsable), Outcome::Read)
}

impl Parsers {
    fn parse(&mut self, compiled: &Compiled, text: &str) -> Option<Tree> {
        let parser = self.0.entry(compiled.grammar.language).or_default();
        if parser.language().is_none_or(|language| *language != compiled.language) {
            parser.set_language(&compiled.language).ok()?;
        }
        let bytes = text.as_bytes();
        let mut steps = 0;
        let mut progress = |_: &tree_sitter::ParseState| {
            steps += 1;
            if steps > MAX_STEPS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let options = ParseOptions::new().progress_callback(&mut progress);
        let tree = parser.parse_with_options(&mut |at, _| bytes.get(at..).unwrap_or_default(), None, Some(options));
        // What was given up would be gone on with.
        parser.reset();
        tree
    }
}

/// Something that the walk is in.
struct Open {
    depth: u32,
    /// How long the path was before it.
    outer: usize,
    is_type: bool,
    /// The function that it is, by its place in the list.
    function: Option<usize>,
    own_name: Option<String>,
}

/// The way through a tree, without recursion: trees are as deep as their author likes.
struct Walk<'a> {
    compiled: &'a Compiled,
    text: Text<'a>,
    symbols: &'a Symbols,
    open: Vec<Open>,
    /// The names of what is open, with dots between them.
    path: String,
    functions: Vec<Definition>,
    imports: BTreeSet<&'a str>,
    /// Bytes that the grammar makes nothing of.
    broken: usize,
    is_too_deep: bool,
}

impl<'a> Walk<'a> {
    fn new(compiled: &'a Compiled, text: Text<'a>, symbols: &'a Symbols) -> Self {
        Self {
            compiled,
            text,
            symbols,
            open: Vec::new(),
            path: String::new(),
            functions: Vec::new(),
            imports: BTreeSet::new(),
            broken: 0,
            is_too_deep: false,
        }
    }

    /// What the tree has; nothing where the grammar makes nothing of most of it, or it is deeper than anybody writes.
    fn through(mut self, tree: &Tree) -> Option<FileFunctions> {
        let mut cursor = tree.walk();
        while !self.is_too_deep && self.step(&mut cursor) {}
        if self.is_too_deep || self.broken * 2 > self.text.0.len() {
            return None;
        }
        for function in &mut self.functions {
            function.calls.sort_unstable();
            function.calls.dedup();
        }
        self.functions.sort_by_key(|function| function.lines);
        Some(FileFunctions {
            language: self.compiled.grammar.language,
            implicit_receiver: self.compiled.grammar.implicit_receiver,
            functions: self.functions,
            imports: self.imports.into_iter().map(|word| self.symbols.of(word)).collect(),
        })
    }

    /// Looks at a node and goes on to the next; false at the end.
    fn step(&mut self, cursor: &mut TreeCursor<'_>) -> bool {
        let goes_below = self.enter(cursor.node(), cursor.depth());
        if goes_below && cursor.goto_first_child() {
            return true;
        }
        loop {
            self.leave(cursor.depth());
            if cursor.goto_next_sibling() {
                return true;
            }
            if !cursor.goto_parent() {
                return false;
            }
        }
    }

    /// Takes what a node means, and tells whether what is below it is to be looked at.
    fn enter(&mut self, node: Node<'_>, depth: u32) -> bool {
        if node.is_error() {
            let within = node.parent().is_some_and(|parent| parent.is_error());
            self.broken += if within { 0 } else { node.byte_range().len() };
        }
        match self.compiled.ask(node, self.text) {
            Found::Nothing => {}
            Found::Test => return false,
            Found::Scope(scope) => self.push(depth, &scope.name, scope.is_type, None, None),
            Found::Function(function) => self.define(node, depth, function),
            Found::Call(call) => self.call(call.receiver, &call.name),
            Found::Import => self.import(node),
        }
        true
    }

    fn push(&mut self, depth: u32, name: &str, is_type: bool, function: Option<usize>, own_name: Option<String>) {
        self.is_too_deep |= self.open.len() == MAX_NESTED;
        let outer = self.path.len();
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
        self.open.push(Open { depth, outer, is_type, function, own_name });
    }

    fn leave(&mut self, depth: u32) {
        while let Some(open) = self.open.pop_if(|open| open.depth >= depth) {
            self.path.truncate(open.outer);
        }
    }

    fn define(&mut self, node: Node<'_>, depth: u32, function: Function) {
        let within_type = self.open.last().is_some_and(|open| open.is_type) || function.name.contains('.');
        let place = self.functions.len();
        self.push(depth, &function.name, false, Some(place), function.own_name);
        let (scope, simple) =
            self.path.rsplit_once('.').map_or((None, self.path.as_str()), |(scope, simple)| (Some(scope), simple));
        let owner = scope.filter(|_| within_type).map(|scope| scope.rsplit('.').next().unwrap_or(scope));
        let (first, last) = (self.compiled.grammar.first_line(node), last_line(node, self.text));
        let definition = Definition {
            name: self.symbols.of(&self.path),
            simple: self.symbols.of(simple),
            scope: scope.map(|scope| self.symbols.of(scope)),
            owner: owner.map(|owner| self.symbols.of(owner)),
            kind: function.kind.unwrap_or_else(|| self.compiled.grammar.kind(simple, owner)),
            lines: (line_number(first), line_number(last.max(first))),
            digest: digest(self.text.of(node)),
            calls: Vec::new(),
        };
        self.functions.push(definition);
    }

    fn call(&mut self, receiver: Receiver, name: &str) {
        let Some(caller) = self.open.iter().rev().find(|open| open.function.is_some()) else { return };
        let receiver = match receiver {
            Receiver::Named(object) if caller.own_name.as_ref() == Some(&object) => Receiver::Own,
            Receiver::Named(object) => Receiver::Named(self.symbols.of(&object)),
            Receiver::None => Receiver::None,
            Receiver::Own => Receiver::Own,
            Receiver::Super => Receiver::Super,
            Receiver::Unknown => Receiver::Unknown,
        };
        let name = self.symbols.of(name);
        if let Some(function) = caller.function.and_then(|place| self.functions.get_mut(place)) {
            function.calls.push((receiver, name));
        }
    }

    fn import(&mut self, node: Node<'_>) {
        let text = self.text.of(node);
        let text = &text[..text.floor_char_boundary(MAX_IMPORT)];
        let is_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '$');
        self.imports.extend(text.split(|letter| !is_word(letter)).filter(|word| !word.is_empty()));
    }
}

/// The line that a node's last word is on, counted from 0: comments at the end of a body are no part of it.
fn last_line(node: Node<'_>, text: Text<'_>) -> usize {
    let mut last = node;
    loop {
        let count = last.child_count();
        let inner = (0..count).rev().filter_map(|at| last.child(at));
        match inner.into_iter().find(|child| !child.is_extra() && !child.byte_range().is_empty()) {
            Some(child) => last = child,
            None => break,
        }
    }
    // A word may be a line's end itself.
    let word = text.of(last);
    let trailing = word.len() - word.trim_end().len();
    let breaks = word[word.len() - trailing..].matches('\n').count();
    last.end_position().row - breaks.min(last.end_position().row)
}

fn line_number(row: usize) -> u32 {
    u32::try_from(row + 1).unwrap_or(u32::MAX)
}

fn digest(text: &str) -> [u8; 8] {
    let whole = Sha256::digest(text.as_bytes());
    let mut beginning = [0; 8];
    beginning.copy_from_slice(&whole[..8]);
    beginning
}
