//! The page that names a test for every field (`docs/fields.md`), held against the definitions and against the tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use sera_crds::definition::definitions;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// A row: the fields of its first cell, and what stands in the second.
fn rows() -> Vec<(Vec<String>, String)> {
    let page = std::fs::read_to_string(docs().join("fields.md")).unwrap();
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once(" | "));
    let fields = |cell: &str| cell.split(", ").map(|field| field.trim_matches('`').to_owned()).collect();
    cells.map(|(first, second)| (fields(first), second.to_owned())).collect()
}

/// The tests that a cell links to: their names and their files.
fn tests(cell: &str) -> Vec<(&str, PathBuf)> {
    let links = cell.split('[').skip(1).filter_map(|link| link.split_once(']'));
    links
        .map(|(name, rest)| {
            let file = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).expect("a link has a file").0;
            (name, docs().join(file))
        })
        .collect()
}

/// The paths of all fields of a spec or a status that are no sections, with `*` for the roles of pods, which share one type.
fn leaves(path: &str, schema: &JSONSchemaProps, found: &mut BTreeSet<String>) {
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        return leaves(&format!("{path}[]"), items, found);
    }
    let fields = schema.properties.iter().flatten();
    let is_section = fields.clone().any(|(_, field)| field.description.is_some());
    if !is_section {
        found.insert(path.to_owned());
        return;
    }
    for (name, field) in fields {
        let name = if path == "spec.pods" { "*" } else { name };
        leaves(&format!("{path}.{name}"), field, found);
    }
}

#[test]
fn every_field_of_both_specs_and_statuses_stands_on_the_page_once_and_no_other_does() {
    let mut known = BTreeSet::new();
    for definition in definitions() {
        let root = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        for part in ["spec", "status"] {
            leaves(part, &root.properties.as_ref().unwrap()[part], &mut known);
        }
    }
    let told: Vec<String> = rows().into_iter().flat_map(|(fields, _)| fields).collect();
    let distinct: BTreeSet<String> = told.iter().cloned().collect();
    assert!(known.len() > 100, "this test cannot fail: {known:?}");
    assert_eq!(known.difference(&distinct).collect::<Vec<_>>(), Vec::<&String>::new(), "these have no row");
    assert_eq!(distinct.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "these are no fields");
    assert_eq!(told.len(), distinct.len(), "a field has two rows");
}

#[test]
fn every_test_that_the_page_names_is_there() {
    for (fields, cell) in rows() {
        for (name, file) in tests(&cell) {
            let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(text.contains(&format!("fn {name}(")), "{fields:?}: {} has no {name}", file.display());
        }
    }
}

#[test]
fn every_field_has_a_test() {
    let bare: Vec<String> =
        rows().into_iter().filter(|(_, cell)| tests(cell).is_empty()).flat_map(|(fields, _)| fields).collect();
    assert_eq!(bare, Vec::<String>::new(), "nothing shows these");
}
