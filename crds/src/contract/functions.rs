//! `snapshot/functions.jsonl.zst`: the functions of every snapshot, a line each, and the one that a sample is about. The file is sorted (snapshot,
//! file, first line), so that the same tree gives the same bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::values::Language;

/// One function of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IndexedFunction {
    /// The commit that it was found in, by its position in the manifest's `commits` (0 is the newest).
    pub snapshot: u32,
    /// The file, from the repository's root, with `/`. Files whose names are no UTF-8 are not indexed.
    pub file: String,
    /// The name within the file, qualified by what surrounds it: `Session.close`.
    pub name: String,
    /// What it is.
    pub kind: FunctionKind,
    /// The language of the file (or of the part of it).
    pub language: Language,
    /// Its first and last line, counted from 1, both included; decorators, attributes and comments before it are not.
    pub lines: (u32, u32),
    /// The first 16 hexadecimal digits of the sha256 of its text: where file, name and this are the same at two commits,
    /// the function is the same.
    pub digest: String,
    /// The functions of the same snapshot that it calls, by name; resolved within the repository, the surest first, and
    /// no more than 32 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallEdge>,
    /// The functions of the same snapshot that call it; again the surest first, and no more than 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<CallEdge>,
    /// Whether it was set aside for evaluation before anything was generated: with all of its file, at every commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_out: bool,
}

/// What a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FunctionKind {
    /// A function of a module or namespace.
    Function,
    /// A function of a type: method, associated function, property accessor.
    Method,
    /// A constructor or destructor, where the language sets them apart.
    Constructor,
    /// A function expression that is bound to a name.
    Closure,
}

/// One end of a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallEdge {
    /// The other function's file.
    pub file: String,
    /// The other function's qualified name.
    pub name: String,
    /// How many functions of the snapshot the call could have meant; 1 is certain as far as names go. A call that could
    /// have meant more than eight says nothing, and is left out.
    pub candidates: u32,
}

/// What the index has of one commit, and what it has not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IndexCounts {
    /// Files with at least one function.
    pub files: u64,
    /// Functions, by language.
    pub functions: BTreeMap<Language, u64>,
    /// Those of them that were set aside for evaluation.
    pub held_out: u64,
    /// Files that were left out, by reason.
    pub skipped: BTreeMap<SkipReason, u64>,
}

impl IndexCounts {
    /// Functions in all languages.
    pub fn total(&self) -> u64 {
        self.functions.values().sum()
    }
}

/// Why a file is not in the index; the first reason that applies, in this order. Links and submodules are no files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SkipReason {
    /// Its name is not UTF-8.
    NameNotUtf8,
    /// By its name it is in no language that the indexer knows.
    UnknownLanguage,
    /// It is in a language that was not asked for.
    OtherLanguage,
    /// `include` does not name it.
    NotIncluded,
    /// `exclude` names it.
    Excluded,
    /// It is another project's: by its path, or by `linguist-vendored` in `.gitattributes`.
    Vendored,
    /// A program wrote it: by its path or its first lines, or by `linguist-generated` in `.gitattributes`.
    Generated,
    /// `.gitattributes` calls it documentation.
    Documentation,
    /// It is a test, by its path.
    Test,
    /// It is larger than 1 MiB.
    TooLarge,
    /// It has NUL bytes.
    Binary,
    /// It is a pointer to where Git LFS keeps the file.
    LfsPointer,
    /// Its lines are so long that a program must have joined them.
    Minified,
    /// The grammar of its language makes nothing of it.
    Unparsable,
}

/// A function, as far as a sample needs to name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionRef {
    /// The commit, by its position in the manifest.
    pub snapshot: u32,
    /// The file, from the repository's root.
    pub file: String,
    /// The qualified name.
    pub name: String,
    /// Its first and last line, counted from 1, both included.
    pub lines: (u32, u32),
}

impl From<&IndexedFunction> for FunctionRef {
    fn from(function: &IndexedFunction) -> Self {
        Self {
            snapshot: function.snapshot,
            file: function.file.clone(),
            name: function.name.clone(),
            lines: function.lines,
        }
    }
}

/// A line of `snapshot/style.jsonl.zst`: an issue of the repository whose style synthetic pull requests follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StyleExample {
    /// Where it is from.
    pub origin: StyleOrigin,
    /// Its title, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its text, as it stands there.
    pub body: String,
}

/// Where a style example is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StyleOrigin {
    /// An issue on GitHub.
    Issue,
    /// A commit's message.
    CommitMessage,
    /// The built-in examples: the repository has neither.
    BuiltIn,
}
