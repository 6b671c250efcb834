//! Every change of the catalogue at every place of real files in every language, parsed by the language's grammar: what parsed before parses after.

use std::path::{Path, PathBuf};

use tree_sitter::Parser;

use super::*;
use crate::agent::defined;
use crate::code::{Extent, Language, extent_at};

fn grammar(language: Language) -> tree_sitter::Language {
    match language {
        Language::Python => tree_sitter_python::LANGUAGE.into(),
        Language::Rust => tree_sitter_rust::LANGUAGE.into(),
        Language::Go => tree_sitter_go::LANGUAGE.into(),
        Language::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
        Language::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        Language::Java => tree_sitter_java::LANGUAGE.into(),
        Language::C => tree_sitter_c::LANGUAGE.into(),
        Language::Cpp => tree_sitter_cpp::LANGUAGE.into(),
        Language::Ruby => tree_sitter_ruby::LANGUAGE.into(),
        Language::CSharp => tree_sitter_c_sharp::LANGUAGE.into(),
        Language::Php => tree_sitter_php::LANGUAGE_PHP.into(),
        Language::Kotlin => tree_sitter_kotlin_ng::LANGUAGE.into(),
        Language::Swift => tree_sitter_swift::LANGUAGE.into(),
        Language::Scala => tree_sitter_scala::LANGUAGE.into(),
    }
}

/// What was tried, and what of it no longer parsed.
#[derive(Debug, Default)]
struct Tally {
    functions: usize,
    changes: usize,
    broken: Vec<String>,
}

/// Tries every change in every function of a file.
fn try_file(path: &Path, tally: &mut Tally) {
    let (Some(language), Ok(text)) = (Language::of(&path.to_string_lossy()), std::fs::read_to_string(path)) else {
        return;
    };
    let mut parser = Parser::new();
    parser.set_language(&grammar(language)).unwrap();
    let mut is_right = |text: &str| !parser.parse(text, None).unwrap().root_node().has_error();
    if !is_right(&text) {
        return;
    }
    let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    for at in 0..lines.len() {
        let Some(name) = defined(language, &lines[at]) else { continue };
        let Extent::Lines(count) = extent_at(language, &name, &lines, at) else { continue };
        let function = Function::new(language, &name, lines[at..at + count].to_vec());
        let designer = Designer::new(Draw::new(1), &function);
        tally.functions += 1;
        for (kind, wording) in KINDS.into_iter().flat_map(|kind| [(kind, Wording::Usual), (kind, Wording::Other)]) {
            for edit in designer.sites(kind, wording) {
                let change = Change { edits: vec![edit] };
                let changed = [&lines[..at], &change.apply(&function.lines), &lines[at + count..]].concat().join("\n");
                tally.changes += 1;
                if !is_right(&changed) {
                    tally.broken.push(format!("{}:{} {name}: {change:?}", path.display(), at + 1));
                }
            }
        }
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

#[test]
fn every_change_at_every_place_still_parses() {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rehearsal/repository"), &mut found);
    let mut tally = Tally::default();
    for file in &found {
        try_file(file, &mut tally);
    }
    assert!(tally.functions >= 30 && tally.changes >= 300, "{tally:?}");
    assert!(tally.broken.is_empty(), "{:#?}", tally.broken);
}
