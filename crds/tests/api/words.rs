//! The words by which programs say why they ended without a result, as `docs/conditions.md` lists them, held against the programs' sources.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use regex_lite::Regex;

/// The columns of the page's table, by whose turn it is.
const CLASSES: [&[&str]; 3] = [&["configuration", "conflict"], &["unavailable"], &["internal"]];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The words in each column.
fn page() -> [BTreeSet<String>; 3] {
    let page = std::fs::read_to_string(root().join("docs/conditions.md")).unwrap();
    let (_, section) = page.split_once("\n## Words of the programs\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let word = Regex::new("`([A-Z][A-Za-z]+)`").unwrap();
    let rows: Vec<Vec<&str>> =
        section.lines().filter(|line| line.contains('`')).map(|line| line.split('|').collect()).collect();
    [2, 3, 4].map(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.flat_map(|cell| word.captures_iter(cell).map(|found| found[1].to_owned())).collect()
    })
}

/// The sources of the programs that run in pods, without their tests.
fn sources() -> String {
    let mut text = String::new();
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root().join("images")).unwrap().map(|image| image.unwrap().path().join("src")).collect();
    folders.retain(|folder| folder.is_dir());
    folders.push(root().join("trainer/src"));
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = std::fs::read_to_string(&path).unwrap();
                text.push_str(file.split("#[cfg(test)]\nmod tests {").next().unwrap());
            }
        }
    }
    text
}

#[test]
fn every_word_that_a_program_says_stands_on_the_page_where_whose_turn_it_is_says_it() {
    let (page, sources) = (page(), sources());
    for (classes, listed) in CLASSES.into_iter().zip(&page) {
        let said = Regex::new(&format!(r#"\b({})\(\s*"([A-Z][A-Za-z]+)""#, classes.join("|"))).unwrap();
        let said: BTreeSet<String> = said.captures_iter(&sources).map(|found| found[2].to_owned()).collect();
        assert!(said.len() > 10, "this test cannot fail: {said:?}");
        let missing: Vec<&String> = said.difference(listed).collect();
        assert!(missing.is_empty(), "docs/conditions.md has nothing of {missing:?} where it lists {classes:?}");
    }
    let said = Regex::new(r#"\breason: "([A-Z][A-Za-z]+)""#).unwrap();
    let missing: Vec<String> = said
        .captures_iter(&sources)
        .map(|found| found[1].to_owned())
        .filter(|word| page.iter().all(|listed| !listed.contains(word)))
        .collect();
    assert!(missing.is_empty(), "docs/conditions.md has nothing of {missing:?}");
}

#[test]
fn no_word_stands_on_the_page_that_no_program_says() {
    let sources = sources();
    let unsaid: Vec<String> =
        page().into_iter().flatten().filter(|word| !sources.contains(&format!("\"{word}\""))).collect();
    assert_eq!(unsaid, Vec::<String>::new(), "no program says these");
}
