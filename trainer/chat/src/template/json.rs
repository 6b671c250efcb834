//! `tojson` as transformers has it: Python's `json.dumps` with `ensure_ascii=False`, keys in the order given, and no escapes for HTML.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;

use super::python::float;

/// How it is laid out.
struct Style {
    ascii: bool,
    /// What one level is indented by; none: all on one line.
    indent: Option<String>,
    between_items: String,
    after_key: String,
    sorted: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { ascii: false, indent: None, between_items: ", ".to_owned(), after_key: ": ".to_owned(), sorted: false }
    }
}

/// The JSON of a value as templates write it: what Python's `json.dumps(value, ensure_ascii=False)` gives. What has no JSON becomes nothing.
pub fn to_json(value: &(impl Serialize + ?Sized)) -> String {
    let mut json = String::new();
    match Style::default().write(&mut json, &Value::from(Serde(value)), 0) {
        Ok(()) => json,
        Err(_) => String::new(),
    }
}

/// The filter.
#[expect(clippy::needless_pass_by_value, reason = "filters take their named arguments so")]
pub(super) fn filter(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = arguments.get("indent")?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        Some(indent) if indent.as_str().is_some() => indent.as_str().map(str::to_owned),
        Some(indent) => Some(" ".repeat(usize::try_from(indent)?)),
        None => None,
    };
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let (between_items, after_key) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some([items, keys]) => (items.clone(), keys.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson's separators must be two strings")),
    };
    let style = Style {
        ascii: arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        between_items,
        after_key,
    };
    arguments.assert_all_used()?;
    let mut json = String::new();
    style.write(&mut json, value, 0)?;
    Ok(json)
}

impl Style {
    fn write(&self, json: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => json.push_str("null"),
            ValueKind::Bool => json.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => json.push_str(&value.to_string()),
            ValueKind::Number => json.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(json, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect();
                self.container(json, ('[', ']'), items, depth, |json, item| self.write(json, &item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
                }
                self.container(json, ('{', '}'), keys, depth, |json, key| {
                    self.string(json, &key.to_string());
                    json.push_str(&self.after_key);
                    self.write(json, &value.get_item(&key)?, depth + 1)
                })?;
            }
            kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("{kind} has no JSON"))),
        }
        Ok(())
    }

    fn container(
        &self,
        json: &mut String,
        (open, close): (char, char),
        items: Vec<Value>,
        depth: usize,
        mut write: impl FnMut(&mut String, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        json.push(open);
        let empty = items.is_empty();
        for (position, item) in items.into_iter().enumerate() {
            if position > 0 {
                json.push_str(&self.between_items);
            }
            self.new_line(json, depth + 1);
            write(json, item)?;
        }
        if !empty {
            self.new_line(json, depth);
        }
        json.push(close);
        Ok(())
    }

    fn new_line(&self, json: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            json.push('\n');
            json.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    /// A string with Python's escapes: short ones where JSON has them, `\u00xx` for other control characters, and for everything beyond ASCII
    /// (in UTF-16) if asked for.
    fn string(&self, json: &mut String, text: &str) {
        json.push('"');
        for character in text.chars() {
            match character {
                '"' => json.push_str("\\\""),
                '\\' => json.push_str("\\\\"),
                '\n' => json.push_str("\\n"),
                '\r' => json.push_str("\\r"),
                '\t' => json.push_str("\\t"),
                '\u{8}' => json.push_str("\\b"),
                '\u{c}' => json.push_str("\\f"),
                ' '..='\u{7f}' => json.push(character),
                _ if character < ' ' || self.ascii => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(json, "\\u{unit:04x}");
                    }
                }
                _ => json.push(character),
            }
        }
        json.push('"');
    }
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    use super::*;

    /// Each expectation is what Python's `json.dumps` prints.
    #[test]
    fn json_is_laid_out_as_python_lays_it_out() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", filter);
        let value = Value::from(Serde(serde_json::json!({
            "z": [1, -2.5, 1e16, true, null], "a": {"é<&'": "\u{1}\u{7f}\u{1d11e}\"\n"}, "none": [], "map": {},
        })));
        for (filter, expected) in [
            (
                "tojson",
                "{\"z\": [1, -2.5, 1e+16, true, null], \"a\": {\"é<&'\": \"\\u0001\u{7f}\u{1d11e}\\\"\\n\"}, \"none\": [], \"map\": {}}",
            ),
            (
                "tojson(ensure_ascii=true, sort_keys=true, separators=[',', ':'])",
                "{\"a\":{\"\\u00e9<&'\":\"\\u0001\u{7f}\\ud834\\udd1e\\\"\\n\"},\"map\":{},\"none\":[],\"z\":[1,-2.5,1e+16,true,null]}",
            ),
            (
                "tojson(indent=1)",
                "{\n \"z\": [\n  1,\n  -2.5,\n  1e+16,\n  true,\n  null\n ],\n \"a\": {\n  \"é<&'\": \"\\u0001\u{7f}\u{1d11e}\\\"\\n\"\n },\n \"none\": [],\n \"map\": {}\n}",
            ),
        ] {
            let text =
                environment.render_str(&format!("{{{{ v | {filter} }}}}"), minijinja::context!(v => &value)).unwrap();
            assert_eq!(text, expected, "{filter}");
        }
    }
}
