//! The generated definitions: up to date, described, bounded, and small enough for `kubectl apply`.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use sera_crds::definition::{definitions, manifests};

/// `kubectl apply` keeps the whole object in an annotation, and all annotations together have at most 256 KiB: the rest is for those of others.
const MAX_DEFINITION_BYTES: usize = 240 * 1024;
/// What a status may take, whatever the run's size.
const MAX_STATUS_BYTES: u64 = 32 * 1024;

/// Kubernetes' own types: their fields are described in `kubectl explain pod.spec` and have no bounds of ours. The API
/// server takes nothing of metadata in a definition but the type of its name.
fn is_kubernetes_own(path: &str) -> bool {
    path.contains(".metadata") || path.contains(".affinity.") || path.contains(".tolerations[]")
}

/// Calls `visit` with every schema below a definition's root, and the path by which a user would name it.
fn walk(definition: &CustomResourceDefinition, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
    fn below(path: &str, schema: &JSONSchemaProps, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
        visit(path, schema);
        for (name, child) in schema.properties.iter().flatten() {
            below(&format!("{path}.{name}"), child, visit);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            below(&format!("{path}[]"), items, visit);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
            below(&format!("{path}{{}}"), values, visit);
        }
    }
    below(&definition.spec.names.kind, root(definition), visit);
}

fn root(definition: &CustomResourceDefinition) -> &JSONSchemaProps {
    definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()
}

/// The paths of all schemas of both kinds that are ours and for which `wrong` is true.
fn paths_where(wrong: impl Fn(&str, &JSONSchemaProps) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for definition in definitions() {
        walk(&definition, &mut |path, schema| {
            if !is_kubernetes_own(path) && wrong(path, schema) {
                found.push(path.to_owned());
            }
        });
    }
    found
}

const NONE: [&str; 0] = [];

#[test]
fn the_manifests_are_up_to_date() {
    for folder in ["manifests", "../charts/sera-operator-crds/files"] {
        for manifest in manifests().unwrap() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(&manifest.file);
            let current = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(current == manifest.yaml, "{} is out of date: run `cargo run --bin crdgen`", path.display());
        }
    }
}

#[test]
fn every_field_is_described() {
    let is_field = |path: &str| !path.ends_with("[]") && !path.ends_with("{}");
    let undescribed =
        paths_where(|path, schema| is_field(path) && schema.description.as_deref().unwrap_or_default().len() < 10);
    assert_eq!(undescribed, NONE);
}

#[test]
fn every_field_that_may_be_absent_says_what_happens_then() {
    let mut silent = Vec::new();
    for definition in definitions() {
        walk(&definition, &mut |path, schema| {
            let required = schema.required.as_deref().unwrap_or_default();
            for (name, field) in schema.properties.iter().flatten() {
                let description = field.description.as_deref().unwrap_or_default();
                let is_section = field.properties.is_some() || field.type_.as_deref() == Some("object");
                let says =
                    ["Default", "default", "Absent", "One of", "Needed"].iter().any(|word| description.contains(word));
                let path = format!("{path}.{name}");
                if path.contains(".spec.")
                    && !is_kubernetes_own(&path)
                    && !required.contains(name)
                    && !is_section
                    && !says
                {
                    silent.push(path);
                }
            }
        });
    }
    assert_eq!(silent, NONE);
}

#[test]
fn every_text_list_map_and_number_is_bounded() {
    let unbounded = paths_where(|_, schema| match schema.type_.as_deref() {
        Some("string") => {
            schema.max_length.is_none() && schema.enum_.is_none() && schema.format.as_deref() != Some("date-time")
        }
        Some("array") => schema.max_items.is_none() && !schema.items.as_ref().is_some_and(is_set_of_choices),
        Some("object") => schema.additional_properties.is_some() && schema.max_properties.is_none(),
        Some("integer" | "number") => schema.minimum.is_none() || schema.maximum.is_none(),
        _ => false,
    });
    assert_eq!(unbounded, NONE);
}

fn is_set_of_choices(items: &JSONSchemaPropsOrArray) -> bool {
    matches!(items, JSONSchemaPropsOrArray::Schema(item) if item.enum_.is_some())
}

#[test]
fn every_list_says_how_it_is_merged_and_every_number_has_a_format_that_kubernetes_knows() {
    let unsaid = paths_where(|_, schema| match schema.type_.as_deref() {
        Some("array") => schema.x_kubernetes_list_type.is_none(),
        Some("integer") => !matches!(schema.format.as_deref(), Some("int32" | "int64")),
        _ => false,
    });
    assert_eq!(unsaid, NONE);
}

#[test]
fn nothing_is_nullable_or_free_of_form_and_no_list_of_the_definition_is_empty() {
    let loose = paths_where(|_, schema| {
        let null_choice = schema.enum_.iter().flatten().any(|choice| choice.0.is_null());
        null_choice
            || schema.nullable.is_some()
            || schema.one_of.is_some()
            || schema.x_kubernetes_preserve_unknown_fields.is_some()
    });
    assert_eq!(loose, NONE);
    for manifest in manifests().unwrap() {
        // Argo CD sees an endless difference where a definition carries an empty list that the server drops.
        assert!(!manifest.yaml.contains(": []"), "{}", manifest.file);
    }
}

#[test]
fn every_rule_has_a_message_that_fits_one_line() {
    let wordless = paths_where(|_, schema| {
        let rules = schema.x_kubernetes_validations.iter().flatten();
        rules
            .map(|rule| rule.message.as_deref().unwrap_or_default())
            .any(|message| message.len() < 10 || message.contains('\n'))
    });
    assert_eq!(wordless, NONE);
}

#[test]
fn a_definition_fits_what_kubectl_apply_keeps_of_it() {
    for definition in definitions() {
        let bytes = serde_json::to_vec(&definition).unwrap().len();
        assert!(bytes <= MAX_DEFINITION_BYTES, "{} has {bytes} bytes", definition.spec.names.kind);
    }
}

/// Fields that `runDefaults` fills in: a default of the schema would always be there first.
#[test]
fn no_field_has_a_schema_default_and_a_platform_default() {
    let platform = [
        ".spec.output.store",
        ".spec.output.credentialsSecretRef",
        ".spec.pods",
        ".spec.pods.default",
        ".spec.pods.default.proxy",
        ".spec.pods.default.caSecretRef",
        ".spec.pods.default.imagePullSecrets",
        ".spec.pods.default.queueName",
        ".spec.pods.default.nodeSelector",
        ".spec.pods.default.tolerations",
        ".spec.pods.default.priorityClassName",
        ".spec.pods.default.runtimeClassName",
    ];
    let ends_with_one = |path: &str| platform.iter().any(|field| path.ends_with(field));
    assert_eq!(paths_where(|path, _| ends_with_one(path)).len(), 2 * platform.len(), "both kinds have all of them");
    assert_eq!(paths_where(|path, schema| ends_with_one(path) && schema.default.is_some()), NONE);
}

#[test]
fn a_default_of_a_section_is_the_defaults_of_its_fields() {
    for definition in definitions() {
        walk(&definition, &mut |path, schema| {
            // What is left out of the rehearsal's shares counts as nothing, unless all are left out.
            if path.ends_with(".shares") {
                return;
            }
            let Some(serde_json::Value::Object(section)) = schema.default.as_ref().map(|default| &default.0) else {
                return;
            };
            for (name, value) in section {
                let own = schema
                    .properties
                    .as_ref()
                    .and_then(|fields| fields[name].default.as_ref())
                    .map(|default| &default.0);
                assert!(own.is_none() || own == Some(value), "{path}.{name}: {own:?} or {value}?");
            }
        });
    }
}

#[test]
fn the_largest_status_is_at_most_32_kib() {
    for definition in definitions() {
        let status = &root(&definition).properties.as_ref().unwrap()["status"];
        let bytes = largest(status);
        assert!(bytes <= MAX_STATUS_BYTES, "a {} can have a status of {bytes} bytes", definition.spec.names.kind);
    }
}

/// How many bytes of JSON a value of a schema can take where its texts are ASCII and the keys of its maps are words.
fn largest(schema: &JSONSchemaProps) -> u64 {
    const KEY: u64 = 40;
    const TIME: u64 = 32;
    const NUMBER: u64 = 17;
    let quoted = |length: u64| length + 3;
    match schema.type_.as_deref() {
        Some("object") => {
            let fields: u64 = schema
                .properties
                .iter()
                .flatten()
                .map(|(name, field)| quoted(name.len() as u64) + 1 + largest(field))
                .sum();
            let entries = match &schema.additional_properties {
                Some(JSONSchemaPropsOrBool::Schema(values)) => {
                    count(schema.max_properties) * (quoted(KEY) + 1 + largest(values))
                }
                _ => 0,
            };
            fields + entries + 2
        }
        Some("array") => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => count(schema.max_items) * (largest(item) + 1) + 2,
            other => panic!("a list of {other:?}"),
        },
        Some("string") => match (&schema.enum_, schema.max_length) {
            (Some(values), _) => values.iter().map(|value| value.0.to_string().len() as u64).max().unwrap(),
            (None, Some(length)) => quoted(length.try_into().unwrap()),
            (None, None) => quoted(TIME),
        },
        _ => NUMBER,
    }
}

fn count(bound: Option<i64>) -> u64 {
    bound.unwrap().try_into().unwrap()
}
