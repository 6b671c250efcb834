//! The finished `CustomResourceDefinition`s: what the derived ones lack is added here, and what would not do on an API
//! server is put right. The rules of single sections stand with their types; the rules that span sections (locks,
//! immutability, names) are added at the root.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::CustomResourceExt;

use crate::{RolloutBatch, SpecializationRun, batch, run};

/// What is written on top of a generated manifest.
const HEADER: &str =
    "# Generated from the types of the crate sera-crds by `cargo run -p sera-crds --bin crdgen`. Do not edit.\n";

/// Why a manifest could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The definition cannot be written as JSON or YAML.
    #[error("the definition of {name} cannot be written as YAML")]
    Yaml {
        /// The definition's name.
        name: String,
        /// What serde says.
        #[source]
        source: serde_yaml::Error,
    },
}

/// A manifest and the name of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The file's name in `crds/manifests/`.
    pub file: String,
    /// The file's content.
    pub yaml: String,
}

/// The definitions of both kinds, as an API server takes them.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [finished(SpecializationRun::crd(), &run::root_rules()), finished(RolloutBatch::crd(), &batch::root_rules())]
}

/// The definitions as the files of `crds/manifests/`.
pub fn manifests() -> Result<Vec<Manifest>, DefinitionError> {
    definitions().iter().map(manifest).collect()
}

fn manifest(definition: &CustomResourceDefinition) -> Result<Manifest, DefinitionError> {
    let plural = &definition.spec.names.plural;
    let yaml = serde_yaml::to_value(definition)
        .and_then(|mut value| {
            whole_numbers(&mut value);
            serde_yaml::to_string(&value)
        })
        .map_err(|source| DefinitionError::Yaml { name: plural.clone(), source })?;
    Ok(Manifest { file: format!("{plural}.yaml"), yaml: format!("{HEADER}{yaml}") })
}

fn finished(mut definition: CustomResourceDefinition, rules: &[ValidationRule]) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        tidy(schema);
        schema.title = None;
        own_parts_whole(schema);
        schema.properties.get_or_insert_default().insert("metadata".to_owned(), named());
        schema.x_kubernetes_validations.get_or_insert_default().extend(rules.iter().cloned());
    }
    definition
}

/// The schema of metadata, of which a definition may say only what the name is: enough for a rule to point at it.
fn named() -> JSONSchemaProps {
    let of_type = |name: &str| JSONSchemaProps { type_: Some(name.to_owned()), ..JSONSchemaProps::default() };
    let properties = [("name".to_owned(), of_type("string"))].into_iter().collect();
    JSONSchemaProps { properties: Some(properties), ..of_type("object") }
}

/// The parts of sections whose fields may have an owner each: who scales a teacher need not own its image.
const SHARED_PARTS: [&str; 1] = ["teacher.serve"];

/// Gives every part of a section, such as `source.git` or `pods.train`, one owner as a whole. Where each label and each variable has one of its own, the
/// API server writes all of their paths into `managedFields`, and reads them again, at every write: a fifth of what the largest run costs it.
fn own_parts_whole(schema: &mut JSONSchemaProps) {
    let spec = schema.properties.iter_mut().flatten().find_map(|(name, spec)| (name == "spec").then_some(spec));
    for (section, schema) in spec.into_iter().flat_map(|spec| spec.properties.iter_mut().flatten()) {
        for (part, schema) in schema.properties.iter_mut().flatten() {
            let is_shared = SHARED_PARTS.contains(&format!("{section}.{part}").as_str());
            if schema.type_.as_deref() == Some("object") && !is_shared {
                schema.x_kubernetes_map_type = Some("atomic".to_owned());
            }
        }
    }
}

/// Puts right, at any depth, what the derivation leaves behind.
fn tidy(schema: &mut JSONSchemaProps) {
    // An explicit null is dropped by the API server, so that the default applies; kept, it would be a third state
    // between absent and given.
    schema.nullable = None;
    if let Some(choices) = &mut schema.enum_ {
        choices.retain(|JSON(choice)| !choice.is_null());
    }
    // One-ofs are CEL rules with a message of their own; the derived ones only say that exactly one subschema must
    // match.
    schema.one_of = None;
    if schema.type_.as_deref() == Some("integer") {
        schema.format = Some(integer_format(schema.maximum).to_owned());
    }
    if let Some(description) = &mut schema.description {
        *description = one_line(description);
    }
    for child in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        tidy(child);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}

/// Kubernetes knows int32 and int64, and warns of others.
fn integer_format(maximum: Option<f64>) -> &'static str {
    if maximum.is_some_and(|maximum| maximum <= f64::from(i32::MAX)) { "int32" } else { "int64" }
}

/// A doc comment wraps where the source does; an explanation does not.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Bounds are floats in Rust's type; `1024` reads better than `1024.0`.
fn whole_numbers(value: &mut serde_yaml::Value) {
    match value {
        serde_yaml::Value::Number(number) => {
            if let Some(whole) = number.as_f64().and_then(whole_number) {
                *number = whole.into();
            }
        }
        serde_yaml::Value::Sequence(items) => items.iter_mut().for_each(whole_numbers),
        serde_yaml::Value::Mapping(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// The integer that a float stands for, within what floats hold exactly.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the range is checked")]
fn whole_number(float: f64) -> Option<i64> {
    const EXACT: f64 = (1_i64 << 53) as f64;
    (float.fract() == 0.0 && float.abs() < EXACT).then_some(float as i64)
}
