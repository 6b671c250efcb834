//! Calls by a name that several functions have: which of them an edge leads to, how many it says there are, and when there is none.

use sera_crds::contract::IndexedFunction;

use crate::support::{Repository, calls};

/// How many functions one name may have before a call by it says nothing.
const MOST: usize = 8;

/// Types `T0` to `T8`, a file each. All of them have a method `load`, and all but the last a method `save`; two files have a function `parse`.
fn functions() -> Vec<IndexedFunction> {
    let method = |name: &str| format!("    def {name}(self):\n        return self.{name}d\n\n");
    let mut files: Vec<(String, String)> = (0..=MOST)
        .map(|n| {
            let save = if n < MOST { method("save") } else { String::new() };
            (format!("store/t{n}.py"), format!("class T{n}:\n{}{save}", method("load")))
        })
        .collect();
    files[0].1 += "def beside(thing):\n    thing.save()\n";
    let parse = "def parse(text):\n    return text\n\n\n";
    files.extend(
        [
            ("far/caller.py", "def anything(thing):\n    thing.save()\n    thing.load()\n".to_owned()),
            ("far/importer.py", "from store.t3 import T3\n\n\ndef imported(thing):\n    thing.save()\n".to_owned()),
            ("far/named.py", "def named(thing):\n    T3.save(thing)\n".to_owned()),
            ("json/text.py", format!("{parse}def own(text):\n    return parse(text)\n")),
            ("yaml/text.py", parse.to_owned()),
            ("far/parser.py", "def either(text):\n    return parse(text)\n".to_owned()),
        ]
        .map(|(file, code)| (file.to_owned(), code)),
    );
    Repository::of(files.into_iter().map(|(file, code)| (file, code.into_bytes()))).functions(&[])
}

#[test]
fn a_call_that_could_mean_up_to_eight_functions_leads_to_all_of_them_and_one_that_could_mean_more_to_none() {
    let functions = functions();
    let saves: Vec<String> = (0..MOST).map(|n| format!("T{n}.save")).collect();
    let expected: Vec<(&str, u32)> = saves.iter().map(|save| (save.as_str(), 8)).collect();
    assert_eq!(calls(&functions, "far/caller.py", "anything"), expected, "and to no `load`, which nine types have");
    assert_eq!(calls(&functions, "far/parser.py", "either"), [("parse", 2), ("parse", 2)]);
}

#[test]
fn what_is_nearer_is_more_likely_and_what_it_was_chosen_from_is_not_forgotten() {
    let functions = functions();
    assert_eq!(calls(&functions, "store/t0.py", "beside"), [("T0.save", 8)], "its own file's");
    assert_eq!(calls(&functions, "far/importer.py", "imported"), [("T3.save", 8)], "that of a file that it imports");
    let save = functions.iter().find(|function| function.name == "T3.save").unwrap();
    let callers: Vec<(&str, u32)> =
        save.callers.iter().map(|caller| (caller.name.as_str(), caller.candidates)).collect();
    assert_eq!(callers, [("named", 1), ("anything", 8), ("imported", 8)], "the surest first");
}

#[test]
fn a_call_that_names_the_type_or_stands_beside_the_function_is_certain() {
    let functions = functions();
    assert_eq!(calls(&functions, "far/named.py", "named"), [("T3.save", 1)]);
    assert_eq!(calls(&functions, "json/text.py", "own"), [("parse", 1)]);
}
