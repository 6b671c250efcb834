//! The schema of a value that is written as a string.

use schemars::{Schema, json_schema};
use serde_json::{Value, json};

use super::TextValue;

/// A string with the type's pattern, bounds and rules.
pub(crate) fn of_text<T: TextValue>() -> Schema {
    // No minLength: every pattern says how short a text may be, and its refusal is the one with a sentence.
    let mut schema = json_schema!({"type": "string", "pattern": T::PATTERN, "maxLength": T::MAX_CHARS});
    // The API server answers a pattern that does not fit with the pattern alone, which explains nothing to a user.
    let fits = format!("self.matches(r'{}')", T::PATTERN);
    let expected = T::RULES.iter().filter(|rule| rule.message.is_none()).map(|rule| format!(" && {}", rule.rule));
    let mut rules = vec![json!({
        "rule": format!("{fits}{}", expected.collect::<String>()),
        "message": format!("must be {}", T::EXPECTED),
    })];
    rules.extend(T::RULES.iter().filter_map(|rule| {
        let message = rule.message?;
        Some(json!({"rule": format!("!{fits} || {}", rule.rule), "message": message}))
    }));
    schema.insert("x-kubernetes-validations".into(), Value::Array(rules));
    schema
}
