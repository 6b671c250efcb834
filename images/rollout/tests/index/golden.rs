//! Real files of well-known packages, and the functions that a reader finds in them.

use std::collections::BTreeMap;

use sera_crds::contract::IndexedFunction;
use sera_crds::values::Language;

use crate::support::{Repository, calls, fixture};

const FILES: [&str; 17] = [
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
    "typescript/GestureButtons.tsx",
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

#[test]
fn calls_lead_to_the_functions_that_a_reader_would_name_and_say_how_many_of_that_name_there_are() {
    let functions = repository().functions(&[]);
    for (file, caller, callee, candidates) in [
        // Of its two definitions the preprocessor takes one.
        ("c/pool.c", "POOL_create_advanced", "POOL_free", 2),
        ("cpp/ssl_transcript.cc", "SSLTranscript.GetFinishedMAC", "SSLTranscript.GetHash", 1),
        ("csharp/Exceptions.cs", "Exceptions.ErrorOccurredCheck", "Exceptions.ErrorOccurred", 1),
        // Overloads: which of them is meant, the arguments tell.
        ("csharp/Exceptions.cs", "Exceptions.deprecation", "Exceptions.warn", 2),
        ("csharp/Exceptions.cs", "Exceptions.RaiseTypeError", "Exceptions.SetError", 3),
        ("go/list.go", "List.PushFront", "List.lazyInit", 1),
        ("java/CharRange.java", "CharRange.isIn", "CharRange.CharRange", 1),
        ("javascript/view.js", "View.lookup", "View.resolve", 1),
        ("javascript/comparator.js", "Comparator.constructor", "Comparator.parse", 1),
        ("kotlin/HashingSink.kt", "HashingSink.Companion.md5", "HashingSink.constructor", 2),
        ("php/Stream.php", "Stream.__toString", "Stream.getContents", 1),
        ("python/functional.py", "lazy.__proxy__.__str__", "lazy.__proxy__.__cast", 1),
        ("python/functional.py", "LazyObject.__setattr__", "LazyObject._setup", 1),
        ("ruby/query_parser.rb", "Rack.QueryParser.parse_nested_query", "Rack.QueryParser.normalize_params", 1),
        ("rust/parse.rs", "version_req", "comparator", 1),
        ("scala/Model.scala", "PermSet.contains", "PermSet.permToMask", 1),
        // Three methods, and what two subscripts give.
        ("swift/KeyValueStore.swift", "KeyValueStore.get", "FileStore.get", 5),
        ("typescript/GestureButtons.tsx", "InnerBaseButton.onGestureEvent", "InnerBaseButton.handleEvent", 1),
        ("typescript/GestureButtons.tsx", "InnerRectButton.render", "LegacyBaseButton", 1),
        ("typescript/GestureButtons.tsx", "LegacyRectButton", "InnerRectButton.constructor", 1),
        // Whatever the component was given, which two others here have by that name.
        ("typescript/GestureButtons.tsx", "InnerBaseButton.handleEvent", "InnerRectButton.onActiveStateChange", 2),
        ("typescript/Subscriber.ts", "Subscriber.next", "Subscriber._next", 1),
    ] {
        let found = calls(&functions, file, caller);
        assert!(found.contains(&(callee, candidates)), "{caller} of {file} calls {found:?}");
    }
    for function in &functions {
        for edge in &function.calls {
            let other = functions.iter().filter(|other| other.file == edge.file && other.name == edge.name);
            let mut back = other.flat_map(|other| &other.callers);
            let knows = back.any(|caller| {
                (&caller.file, &caller.name, caller.candidates) == (&function.file, &function.name, edge.candidates)
            });
            assert!(knows, "{} calls {}, which does not know", function.name, edge.name);
        }
    }
}
