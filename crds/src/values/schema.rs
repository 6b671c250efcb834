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
    if !T::RULES.is_empty() {
        let rules: Vec<Value> = T::RULES.iter().map(|rule| json!({"rule": rule.rule, "message": rule.message})).collect();
        schema.insert("x-kubernetes-validations".into(), Value::Array(rules));
    }
    schema
}
