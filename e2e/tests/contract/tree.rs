//! A kind's schema as the server publishes it for `kubectl explain`, walked field by field.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::server::{GROUP_VERSION, Kind, Server};

/// A field, or what the items of a list or the values of a map are.
pub(crate) struct Field<'a> {
    /// `spec.source.include`; the items of a list are `spec.source.include[]`, the values of a map `spec.pods.default.labels{}`.
    pub(crate) path: String,
    pub(crate) schema: &'a Value,
}

/// The schema of a kind.
pub(crate) async fn served(server: &Server, kind: Kind) -> Result<Value> {
    let mut document = server.get(&format!("/openapi/v3{GROUP_VERSION}")).await?;
    let schemas = document["components"]["schemas"].as_object_mut().context("no schemas are served")?;
    let of_kind = |schema: &Value| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.iter().any(|served| served["kind"] == format!("{kind:?}")))
    };
    schemas.values_mut().find(|schema| of_kind(schema)).map(Value::take).context("the kind has no schema")
}

/// Every field of `spec` and `status`, depth first.
pub(crate) fn fields(schema: &Value) -> Vec<Field<'_>> {
    let mut found = Vec::new();
    for part in ["spec", "status"] {
        collect(part.to_owned(), &schema["properties"][part], &mut found);
    }
    found
}

fn collect<'a>(path: String, schema: &'a Value, found: &mut Vec<Field<'a>>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            collect(format!("{path}.{name}"), property, found);
        }
    }
    if schema["items"].is_object() {
        collect(format!("{path}[]"), &schema["items"], found);
    }
    if schema["additionalProperties"].is_object() {
        collect(format!("{path}{{}}"), &schema["additionalProperties"], found);
    }
    found.push(Field { path, schema });
}

/// What Kubernetes defines, not we: its bounds and its descriptions are its own.
const OF_KUBERNETES: [&str; 3] = [".affinity", ".tolerations[]", ".conditions[]"];

/// Texts up to this length are too short to cost anything, such as decimal strings and durations.
const SHORT_TEXT: u64 = 64;

impl Field<'_> {
    pub(crate) fn is_in_spec(&self) -> bool {
        self.path.starts_with("spec.")
    }

    pub(crate) fn is_of_kubernetes(&self) -> bool {
        OF_KUBERNETES.iter().any(|part| self.path.contains(part))
    }

    /// Whether the field belongs to a role of `pods`; all roles have the type of `default`.
    pub(crate) fn is_of_role_but_default(&self) -> bool {
        self.path.strip_prefix("spec.pods.").is_some_and(|rest| rest.contains('.') && !rest.starts_with("default."))
    }

    /// Whether the field is what a list's items or a map's values are.
    pub(crate) fn is_item(&self) -> bool {
        self.path.ends_with("[]") || self.path.ends_with("{}")
    }

    pub(crate) fn is_text(&self) -> bool {
        self.schema["type"] == "string" && self.schema["enum"].is_null()
    }

    /// What makes two texts the same type: their constraints, but not their descriptions or defaults.
    pub(crate) fn text_type(&self) -> String {
        format!("{} {} {}", self.schema["pattern"], self.schema["minLength"], self.schema["maxLength"])
    }

    /// Whether the schema says how large the field may be, or what it may say. The form of short texts matters more than
    /// their length, and `values.yaml` tries it; a set of choices cannot be longer than the choices are.
    pub(crate) fn has_bound(&self) -> bool {
        let is_short = self.is_text() && self.schema["maxLength"].as_u64().is_some_and(|most| most <= SHORT_TEXT);
        let is_set_of_choices = !self.schema["items"]["enum"].is_null();
        if is_short || is_set_of_choices {
            return false;
        }
        ["maximum", "maxLength", "maxItems", "maxProperties", "enum"].iter().any(|bound| !self.schema[bound].is_null())
    }

    /// Whether the field cannot grow without end. Structures have as many fields as they have.
    pub(crate) fn is_bounded(&self) -> bool {
        let has = |bound: &str| !self.schema[bound].is_null();
        match self.schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum") || has("format"),
            Some("array") => has("maxItems"),
            Some("integer" | "number") => has("maximum") && has("minimum"),
            Some("object") => has("properties") || has("maxProperties") || !has("additionalProperties"),
            _ => true,
        }
    }
}

/// The fields in which `value` could be larger and still be legal.
pub(crate) fn below_bounds(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if OF_KUBERNETES.iter().any(|part| path.contains(part)) {
        return Vec::new();
    }
    let most = |bound: &str| schema[bound].as_u64();
    let mut below = Vec::new();
    let mut expect = |size: usize, bound: Option<u64>| {
        if bound.is_some_and(|bound| (size as u64) < bound) {
            below.push(path.to_owned());
        }
    };
    match value {
        Value::String(text) if schema["enum"].is_null() => {
            expect(text.chars().count(), most("maxLength").filter(|most| *most > SHORT_TEXT));
        }
        Value::Array(items) => {
            expect(items.len(), most("maxItems"));
            let item = |item| below_bounds(&schema["items"], item, &format!("{path}[]"));
            below.extend(items.iter().flat_map(item));
        }
        Value::Object(fields) if schema["additionalProperties"].is_object() => {
            expect(fields.len(), most("maxProperties"));
            let entry = |entry| below_bounds(&schema["additionalProperties"], entry, &format!("{path}{{}}"));
            below.extend(fields.values().flat_map(entry));
        }
        Value::Object(fields) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                match fields.get(name) {
                    Some(value) => below.extend(below_bounds(property, value, &path)),
                    None => below.push(path),
                }
            }
        }
        _ => {}
    }
    below.dedup();
    below
}
