//! Bounds and choices, each tried from both sides: a line of a case file becomes several cases. Nothing here talks to
//! a server.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{cases::Case, values::merge};

/// A bounded field, and a spec in which its bounds can be tried.
#[derive(Deserialize)]
pub(crate) struct Bound {
    /// The field's path; `name[]` is the only item of a list.
    pub(crate) field: String,
    /// The base to start from, where it is not the section's.
    base: Option<String>,
    /// What must stand beside the field, where that is in the item of a list.
    #[serde(default)]
    beside: Value,
    /// What else the spec must say for a value at the bound to be legal.
    #[serde(default)]
    with: Value,
    #[serde(flatten)]
    pub(crate) range: Range,
}

/// What the field may hold.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Range {
    /// An integer from the first to the second, both included.
    Number(i64, i64),
    /// A string of a number of characters: `fill`, between `prefix` and `suffix`.
    Text(Text),
    /// A list of a number of items; every `{i}` in `of` is an item's index.
    List(List),
    /// A map of a number of entries, `key` and `of` with their index in place of `{i}`.
    Map(Map),
    /// One of these words, in this spelling.
    Choice(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    #[serde(default)]
    prefix: String,
    fill: String,
    #[serde(default)]
    suffix: String,
    most: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    #[serde(default)]
    least: u64,
    most: u64,
    of: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Map {
    most: u64,
    key: String,
    of: Value,
}

/// A value of the field: how it is called, itself, and where it is illegal, what the refusal says.
struct Try {
    called: String,
    value: Value,
    refused: Option<&'static str>,
}

impl Bound {
    /// The cases that try the field from both sides.
    pub(crate) fn cases(&self) -> Result<Vec<Case>> {
        self.tries().into_iter().map(|tried| self.case(tried)).collect()
    }

    fn tries(&self) -> Vec<Try> {
        match &self.range {
            Range::Number(least, most) => numbers(*least, *most),
            Range::Text(text) => vec![text.of(text.most, None), text.of(text.most + 1, Some("may not be more than"))],
            Range::List(list) => list.tries(),
            Range::Map(map) => vec![map.of(map.most, None), map.of(map.most + 1, Some("must have at most"))],
            Range::Choice(words) => choices(words),
        }
    }

    fn case(&self, tried: Try) -> Result<Case> {
        let Try { called, value, refused } = tried;
        let (around, name) = self.field.rsplit_once('.').context("a field without a path")?;
        let mut object = nested(value, name);
        if !self.beside.is_null() {
            merge(&mut object, &self.beside);
        }
        object = around.split('.').rev().fold(object, nested);
        if !self.with.is_null() {
            merge(&mut object, &json!({ "spec": self.with }));
        }
        let verb = if refused.is_some() { "refuses" } else { "takes" };
        let refused = refused.map(|says| json!({ "at": self.field.replace("[]", "[0]"), "says": says }));
        let case = json!({
            "it": format!("{} {verb} {called}", self.field),
            "base": self.base,
            "object": object,
            "refused": refused,
        });
        serde_json::from_value(case).with_context(|| format!("cannot try {}", self.field))
    }
}

fn numbers(least: i64, most: i64) -> Vec<Try> {
    let number = |value: i64, refused| Try { called: value.to_string(), value: json!(value), refused };
    vec![
        number(least, None),
        number(most, None),
        number(least - 1, Some("greater than or equal to")),
        number(most + 1, Some("less than or equal to")),
    ]
}

fn choices(words: &[String]) -> Vec<Try> {
    let mut tries: Vec<Try> =
        words.iter().map(|word| Try { called: word.clone(), value: json!(word), refused: None }).collect();
    let misspelt = [words[0].to_uppercase(), words[0].to_lowercase()].into_iter().filter(|word| !words.contains(word));
    tries.extend(misspelt.chain([String::new()]).map(|word| Try {
        called: format!("{word:?}, which is spelt otherwise"),
        value: json!(word),
        refused: Some("supported values"),
    }));
    tries
}

impl Text {
    fn of(&self, length: u64, refused: Option<&'static str>) -> Try {
        let Self { prefix, fill, suffix, .. } = self;
        let value = json!({"$text": {"prefix": prefix, "fill": fill, "suffix": suffix, "length": length}});
        Try { called: format!("{length} characters"), value, refused }
    }
}

impl List {
    fn tries(&self) -> Vec<Try> {
        let mut tries = vec![self.of(self.most, None), self.of(self.most + 1, Some("must have at most"))];
        if let Some(fewer) = self.least.checked_sub(1) {
            tries.extend([self.of(self.least, None), self.of(fewer, Some("at least"))]);
        }
        tries
    }

    fn of(&self, count: u64, refused: Option<&'static str>) -> Try {
        let value = json!({"$list": {"count": count, "of": self.of}});
        Try { called: format!("{count} items"), value, refused }
    }
}

impl Map {
    fn of(&self, count: u64, refused: Option<&'static str>) -> Try {
        let value = json!({"$map": {"count": count, "key": self.key, "of": self.of}});
        Try { called: format!("{count} entries"), value, refused }
    }
}

/// `inner` as the field of a step of a path.
fn nested(inner: Value, step: &str) -> Value {
    let (name, value) = match step.strip_suffix("[]") {
        Some(list) => (list, Value::Array(vec![inner])),
        None => (step, inner),
    };
    Value::Object([(name.to_owned(), value)].into_iter().collect())
}
