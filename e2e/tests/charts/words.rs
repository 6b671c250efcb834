//! What is said of each value: above it in values.yaml, and the same in the schema, for whoever's editor reads that.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::Host;
use crate::house::Chart;

/// Shorter than this nothing is said.
const FEWEST_CHARACTERS: usize = 10;

pub(crate) fn trials(host: &Host) -> Vec<Trial> {
    vec![host.trial(
        "every value is described above it, and the schema says the same of it, and something of what has no default",
        async |_| Chart::ALL.into_iter().try_for_each(described),
    )]
}

fn described(chart: Chart) -> Result<()> {
    let read = |file: &str| fs::read_to_string(chart.folder().join(file));
    let values = read("values.yaml")?;
    let (above, mut in_schema) = (said_above(&values), BTreeMap::new());
    said_in_schema(&serde_json::from_str(&read("values.schema.json")?)?, "", &mut in_schema);
    for (path, said) in &in_schema {
        ensure!(said.len() >= FEWEST_CHARACTERS, "values.schema.json says {said:?} of {path}");
        let expected = above.get(path).or_else(|| above.get(&as_the_first_image(path)));
        if has_a_default(path) || expected.is_some() {
            let expected = expected.map(String::as_str).unwrap_or_default();
            ensure!(said == expected, "of {path}, values.yaml says {expected:?}, and values.schema.json {said:?}");
        }
    }
    let unheard: Vec<_> = above.keys().filter(|path| !in_schema.contains_key(*path)).collect();
    ensure!(unheard.is_empty(), "values.yaml describes what the schema does not know: {unheard:?}");
    Ok(())
}

/// Whether values.yaml has it: not what is in the items of a list, what a run is given, nor the section that a parent chart shares.
fn has_a_default(path: &str) -> bool {
    !path.contains("[]") && !path.starts_with("runDefaults.") && path != "global"
}

/// What is said of the parts of the first image holds for those of all.
fn as_the_first_image(path: &str) -> String {
    match path.split('.').collect::<Vec<_>>()[..] {
        ["images", _, part] => format!("images.operator.{part}"),
        _ => path.to_owned(),
    }
}

/// The first paragraph of the comment right above each key, by the key's path.
fn said_above(values: &str) -> BTreeMap<String, String> {
    let (mut said, mut keys, mut comment) = (BTreeMap::new(), Vec::<(usize, &str)>::new(), Vec::<&str>::new());
    for line in values.lines() {
        let text = line.trim_start();
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let depth = line.len() - text.len();
        let key = text.split_once(':').map(|(key, _)| key).filter(|key| key.chars().all(char::is_alphanumeric));
        if let Some(key) = key {
            keys.retain(|(outer, _)| *outer < depth);
            keys.push((depth, key));
            let path = keys.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
            let words: Vec<&str> = comment.iter().copied().take_while(|words| !words.is_empty()).collect();
            if !words.is_empty() {
                said.insert(path, words.join(" "));
            }
        }
        comment.clear();
    }
    said
}

/// The description of each property, by its path; nothing where there is none.
fn said_in_schema(schema: &Value, at: &str, said: &mut BTreeMap<String, String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        said_in_schema(property, &path, said);
        said_in_schema(&property["items"], &format!("{path}[]"), said);
        said.insert(path, property["description"].as_str().unwrap_or_default().to_owned());
    }
}
