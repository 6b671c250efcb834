//! Real files of well-known packages, and the functions that a reader finds in them.

use std::collections::BTreeMap;

use sera_crds::contract::IndexedFunction;
use sera_crds::values::Language;

use crate::support::{Repository, fixture};

const FILES: [&str; 16] = [
    "c/pool.c",
    "cpp/ssl_transcript.cc",
    "csharp/Exceptions.cs",
    "go/list.go",
    "java/CharRange.java",
    "javascript/comparator.js",
    "javascript/view.js",
    "kotlin/HashingSink.kt",
    "kotlin/Util.kt",
    "php/Stream.php",
    "python/functional.py",
    "ruby/query_parser.rb",
    "rust/parse.rs",
    "scala/Model.scala",
    "swift/KeyValueStore.swift",
    "typescript/Subscriber.ts",
];

fn repository() -> Repository {
    Repository::of(FILES.map(|file| (file, std::fs::read(fixture(file)).unwrap())))
}

fn line(function: &IndexedFunction) -> String {
    format!("{}-{} {:?} {}", function.lines.0, function.lines.1, function.kind, function.name)
}

#[test]
fn every_function_of_real_files_is_found_where_it_stands() {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut languages: BTreeMap<Language, usize> = BTreeMap::new();
    for function in repository().functions(&[]) {
        found.entry(function.file.clone()).or_default().push(line(&function));
        *languages.entry(function.language).or_default() += 1;
    }
    for file in FILES {
        let expected = std::fs::read_to_string(fixture(&format!("{file}.expected"))).unwrap();
        let expected: Vec<&str> = expected.lines().collect();
        assert_eq!(found.remove(file).unwrap_or_default(), expected, "{file}");
    }
    assert!(found.is_empty(), "{found:?}");
    for language in Language::ALL {
        let count = languages.get(language).copied().unwrap_or_default();
        assert!(count >= 10, "only {count} functions in {language}");
    }
}

/// The calls of a function by file and name, with how many they could mean.
fn calls(functions: &[IndexedFunction], file: &str, name: &str) -> Vec<(String, u32)> {
    let function = functions.iter().find(|function| function.file == file && function.name == name);
    let edges = &function.unwrap_or_else(|| panic!("no {name} in {file}")).calls;
    edges.iter().map(|edge| (edge.name.clone(), edge.candidates)).collect()
}

#[test]
fn calls_lead_to_the_functions_that_a_reader_would_name() {
    let functions = repository().functions(&[]);
    for (file, caller, callee) in [
        ("c/pool.c", "POOL_create_advanced", "POOL_free"),
        ("go/list.go", "List.PushFront", "List.lazyInit"),
        ("java/CharRange.java", "CharRange.isIn", "CharRange.CharRange"),
        ("javascript/view.js", "View.lookup", "View.resolve"),
        ("javascript/comparator.js", "Comparator.constructor", "Comparator.parse"),
        ("kotlin/HashingSink.kt", "HashingSink.Companion.md5", "HashingSink.constructor"),
        ("php/Stream.php", "Stream.__toString", "Stream.getContents"),
        ("ruby/query_parser.rb", "Rack.QueryParser.parse_nested_query", "Rack.QueryParser.normalize_params"),
        ("rust/parse.rs", "version_req", "comparator"),
        ("scala/Model.scala", "PermSet.contains", "PermSet.permToMask"),
        ("swift/KeyValueStore.swift", "KeyValueStore.get", "FileStore.get"),
        ("typescript/Subscriber.ts", "Subscriber.next", "Subscriber._next"),
    ] {
        let found = calls(&functions, file, caller);
        assert!(found.iter().any(|(name, _)| name == callee), "{caller} of {file} calls {found:?}");
    }
    for function in &functions {
        for edge in &function.calls {
            let other = functions.iter().filter(|other| other.file == edge.file && other.name == edge.name);
            let back = other.flat_map(|other| &other.callers);
            let mut back = back.filter(|caller| caller.file == function.file && caller.name == function.name);
            assert!(back.next().is_some(), "{} calls {}, which does not know", function.name, edge.name);
        }
    }
}
