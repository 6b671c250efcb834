//! Schemas of Kubernetes' own types: typed like the originals, bounded where a rule looks at them, and without the
//! originals' descriptions, which would make the definitions larger than `kubectl apply` takes (they are in `kubectl
//! explain pod.spec`).

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, transform::transform_subschemas};
use serde_json::json;

use crate::conditions::MAX_MESSAGE_CHARS;

/// A quantity as Kubernetes writes it: digits, a fraction, and a suffix.
const QUANTITY: &str =
    r"^[+]?([0-9]{1,15}(\.[0-9]{0,9})?|\.[0-9]{1,9})(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]{1,2}))?$";

/// One quantity: `64Gi`, `"500m"` or a whole number.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": QUANTITY, "x-kubernetes-int-or-string": true})
}

/// Quantities by resource name.
pub(crate) fn quantities(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 8, "additionalProperties": quantity(generator)})
}

/// A pod's affinity.
pub(crate) fn affinity(generator: &mut SchemaGenerator) -> Schema {
    bare(Affinity::json_schema(generator))
}

/// A pod's tolerations.
pub(crate) fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    let item = bare(Toleration::json_schema(generator));
    json_schema!({"type": "array", "maxItems": 8, "items": item, "x-kubernetes-list-type": "atomic"})
}

/// Labels: values as Kubernetes takes them, and none of ours.
pub(crate) fn labels(generator: &mut SchemaGenerator) -> Schema {
    none_of_ours(node_selector(generator), "labels")
}

/// Annotations: values of at most 1,024 characters, and none of ours.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    let values = json!({"type": "string", "maxLength": 1_024});
    none_of_ours(json_schema!({"type": "object", "maxProperties": 8, "additionalProperties": values}), "annotations")
}

/// That no key of a map is the operator's own. It stands at the map, and not at what has it: there it would be asked where there is no map, too.
fn none_of_ours(mut map: Schema, what: &str) -> Schema {
    let rule = Rule::new("self.all(k, !(k == 'sera.dev' || k.startsWith('sera.dev/') || k.contains('.sera.dev/')))")
        .message(format!("{what} under sera.dev/ are the operator's own").as_str());
    map.insert("x-kubernetes-validations".to_owned(), json!([rule]));
    map
}

/// A node selector: values as Kubernetes takes them.
pub(crate) fn node_selector(generator: &mut SchemaGenerator) -> Schema {
    let value = crate::values::LabelValue::json_schema(generator);
    json_schema!({"type": "object", "maxProperties": 16, "additionalProperties": value})
}

/// Counts by a CamelCase word, such as the reasons why trajectories were rejected.
pub(crate) fn counts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 16,
        "additionalProperties": {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_COUNT},
    })
}

/// Texts by a CamelCase word, such as image digests by role.
pub(crate) fn texts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 9, "additionalProperties": {"type": "string", "maxLength": 384}})
}

/// Attempts by stage.
pub(crate) fn attempts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 8,
        "additionalProperties": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 1_000_000},
    })
}

/// The conditions of an object: Kubernetes' own type, a map by `type`.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 10, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 63, "pattern": "^[A-Z][A-Za-z]*$", "description": "What the condition is about, in CamelCase: Ready, Reconciling, Stalled, Validated, or a stage's."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds: True, False or Unknown."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_COUNT, "description": "The metadata.generation that this was said of; where it is older than that, this may be out of date."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When the status last changed."},
                "reason": {"type": "string", "maxLength": 128, "minLength": 1, "pattern": "^[A-Z][A-Za-z0-9]*$", "description": "Why, as one CamelCase word for programs."},
                "message": {"type": "string", "maxLength": MAX_MESSAGE_CHARS, "description": "Why, as a sentence for people: what is wrong and what to do."},
            },
        },
    })
}

/// The largest count in a status: what every JSON reader holds exactly (2⁵³ − 1).
pub(crate) const MAX_COUNT: u64 = (1 << 53) - 1;

/// The schema without descriptions, at any depth.
fn bare(mut schema: Schema) -> Schema {
    fn strip(schema: &mut Schema) {
        schema.remove("description");
        schema.remove("title");
        if schema.get("default") == Some(&json!(null)) {
            schema.remove("default");
        }
        transform_subschemas(&mut strip, schema);
    }
    strip(&mut schema);
    schema
}
