//! The little language of the case files: patches over a base, and values too long or too many to write out.
//!
//! * A patch is a JSON merge patch (RFC 7386): maps are merged, `null` removes, everything else replaces.
//! * `{$text: {fill: a, length: 41}}` is a string of exactly that many characters, with an optional `prefix` and `suffix`.
//! * `{$list: {count: 65, of: "src/{i}"}}` is a list of that many items; every `{i}` in an item is its index.
//! * `{$map: {count: 33, key: "k{i}", of: v}}` is a map of that many entries.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Applies a JSON merge patch to `target`.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in patch {
        if change.is_null() {
            fields.shift_remove(name);
        } else {
            merge(fields.entry(name.as_str()).or_insert(Value::Null), change);
        }
    }
}

/// Writes out every `$text`, `$list` and `$map` in `value`.
pub(crate) fn expand(value: Value) -> Result<Value> {
    Ok(match value {
        Value::Object(fields) => match sole_macro(&fields)? {
            Some(written) => written,
            None => Value::Object(
                fields.into_iter().map(|(name, value)| Ok((name, expand(value)?))).collect::<Result<_>>()?,
            ),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(expand).collect::<Result<_>>()?),
        scalar => scalar,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    prefix: String,
    fill: String,
    #[serde(default)]
    suffix: String,
    length: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    count: usize,
    of: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    count: usize,
    key: Value,
    of: Value,
}

/// What a map of one `$` key stands for; `None` for every other map.
fn sole_macro(fields: &Map<String, Value>) -> Result<Option<Value>> {
    let Some((name, body)) = fields.iter().find(|(name, _)| name.starts_with('$')) else { return Ok(None) };
    ensure!(fields.len() == 1, "{name} stands beside other keys");
    let written = match name.as_str() {
        "$text" => text(&parse(name, body)?)?,
        "$list" => list(&parse(name, body)?)?,
        "$map" => map(&parse(name, body)?)?,
        _ => bail!("{name} is none of $text, $list, $map"),
    };
    Ok(Some(written))
}

fn parse<T: DeserializeOwned>(name: &str, body: &Value) -> Result<T> {
    serde_json::from_value(body.clone()).with_context(|| format!("in {name}: {body}"))
}

fn text(text: &Text) -> Result<Value> {
    let around = text.prefix.chars().count() + text.suffix.chars().count();
    let room = text.length.checked_sub(around).context("$text: prefix and suffix are longer than length")?;
    let fill: String = text.fill.chars().cycle().take(room).collect();
    Ok(Value::String(format!("{}{fill}{}", text.prefix, text.suffix)))
}

fn list(list: &List) -> Result<Value> {
    (0..list.count).map(|index| expand(numbered(&list.of, index))).collect()
}

fn map(entries: &Entries) -> Result<Value> {
    let mut fields = Map::new();
    for index in 0..entries.count {
        let key = expand(numbered(&entries.key, index))?;
        let key = key.as_str().context("$map: a key is a string")?.to_owned();
        fields.insert(key, expand(numbered(&entries.of, index))?);
    }
    ensure!(fields.len() == entries.count, "$map: two keys are the same; put {{i}} into the key");
    Ok(Value::Object(fields))
}

/// `value` with every `{i}` in its strings replaced by `index`.
fn numbered(value: &Value, index: usize) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("{i}", &index.to_string())),
        Value::Array(items) => items.iter().map(|item| numbered(item, index)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), numbered(value, index))).collect())
        }
        scalar => scalar.clone(),
    }
}
