//! The schema of a value that is written as a string.

use schemars::{Schema, json_schema};
use serde_json::{Value, json};

use super::TextValue;

/// A string with the type's pattern, bounds and rules.
pub(crate) fn of_text<T: TextValue>() -> Schema {
    let mut schema = json_schema!({"type": "string", "pattern": T::PATTERN, "maxLength": T::MAX_CHARS});
    if T::MIN_CHARS > 0 {
        schema.insert("minLength".into(), json!(T::MIN_CHARS));
    }
    let explained = T::EXPLAINED.then(
        || json!({"rule": format!("self.matches(r'{}')", T::PATTERN), "message": format!("must be {}", T::EXPECTED)}),
    );
    let rules = T::RULES.iter().map(|rule| json!({"rule": rule.rule, "message": rule.message}));
    let rules: Vec<Value> = explained.into_iter().chain(rules).collect();
    if !rules.is_empty() {
        schema.insert("x-kubernetes-validations".into(), Value::Array(rules));
    }
    schema
}
