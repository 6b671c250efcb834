//! The page that documents every field of both kinds (`docs/api.md`), made from the finished definitions: what `kubectl explain` says, in one place.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

const HEADER: &str = "<!-- Generated from the types of the crate sera-crds by `cargo run --bin crdgen`. Do not edit. -->\n\n# API reference: sera.dev/v1alpha1\n\n\
    Every field of both kinds, as `kubectl explain` has it. A field in **bold** must be given. What has no description here is Kubernetes' own: `kubectl explain \
    pod.spec` tells. The tables say what a schema says; what is refused beyond that stands below them, in the words of the refusal.\n";
/// From how many fields of one shape on they are told once, as the roles of pods are.
const ALIKE: usize = 3;

/// The page about these definitions.
pub fn page(definitions: &[CustomResourceDefinition]) -> String {
    let mut page = HEADER.to_owned();
    for definition in definitions {
        let names = &definition.spec.names;
        let short = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        _ = write!(page, "\n## {}\n\nShort name: {short}. ", names.kind);
        let schemas =
            definition.spec.versions.iter().filter_map(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
        for schema in schemas {
            page.push_str(schema.description.as_deref().unwrap_or_default());
            page.push('\n');
            refusals(&mut page, schema);
            for (name, child) in fields(schema).into_iter().filter(|(name, _)| matches!(*name, "spec" | "status")) {
                section(&mut page, &names.kind, name, child);
            }
        }
    }
    page
}

/// An object: its own words, a table of its fields, and after it the objects among them.
fn section(page: &mut String, kind: &str, path: &str, schema: &JSONSchemaProps) {
    _ = write!(page, "\n### {kind} `{path}`\n\n{}\n", schema.description.as_deref().unwrap_or_default());
    page.push_str("\n| field | type | default | |\n|---|---|---|---|\n");
    let groups = groups(schema);
    for (name, child) in &groups {
        let is_required = schema.required.iter().flatten().any(|required| required == name);
        let shown = if is_required { format!("**`{name}`**") } else { format!("`{name}`") };
        let default = child.default.as_ref().map(|JSON(value)| cell(&format!("`{value}`"))).unwrap_or_default();
        let words = cell(child.description.as_deref().unwrap_or_default());
        _ = writeln!(page, "| {shown} | {} | {default} | {words} |", cell(&type_of(child)));
    }
    refusals(page, schema);
    for (name, child) in groups {
        let (suffix, inner) = content(child);
        if is_told(inner) {
            section(page, kind, &format!("{path}.{name}{suffix}"), inner);
        }
    }
}

/// The fields by name; many of one shape together, under all of their names.
fn groups(schema: &JSONSchemaProps) -> Vec<(String, &JSONSchemaProps)> {
    let fields = fields(schema);
    let alike = |child: &JSONSchemaProps| -> Vec<&str> {
        let is_alike = |other: &JSONSchemaProps| child.properties.is_some() && other.properties == child.properties;
        fields.iter().filter(|(_, other)| is_alike(other)).map(|(name, _)| *name).collect()
    };
    let mut groups = Vec::new();
    for (name, child) in &fields {
        let names = alike(child);
        if names.len() < ALIKE {
            groups.push(((*name).to_owned(), *child));
        } else if names.first() == Some(name) {
            groups.push((format!("{{{}}}", names.join(", ")), *child));
        }
    }
    groups
}

fn fields(schema: &JSONSchemaProps) -> Vec<(&str, &JSONSchemaProps)> {
    schema.properties.iter().flatten().map(|(name, child)| (name.as_str(), child)).collect()
}

/// What a list or a map holds, and how a path says so; anything else is its own content.
fn content(schema: &JSONSchemaProps) -> (&'static str, &JSONSchemaProps) {
    match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => ("[]", items),
        (_, Some(JSONSchemaPropsOrBool::Schema(values))) => (".<key>", values),
        _ => ("", schema),
    }
}

/// Whether it is an object of ours: Kubernetes' own come without descriptions.
fn is_told(schema: &JSONSchemaProps) -> bool {
    fields(schema).iter().any(|(_, child)| child.description.is_some())
}

fn type_of(schema: &JSONSchemaProps) -> String {
    let (suffix, inner) = content(schema);
    match suffix {
        "[]" => format!("list of {}{}", type_of(inner), at_most(schema.max_items)),
        ".<key>" => format!("map of {}{}", type_of(inner), at_most(schema.max_properties)),
        _ => scalar(schema),
    }
}

fn scalar(schema: &JSONSchemaProps) -> String {
    let choices: Vec<String> = schema
        .enum_
        .iter()
        .flatten()
        .map(|JSON(choice)| choice.as_str().map_or(choice.to_string(), str::to_owned))
        .collect();
    if !choices.is_empty() {
        return choices.join(" | ");
    }
    let name = match schema.type_.as_deref() {
        _ if schema.x_kubernetes_int_or_string == Some(true) => "integer or string",
        Some(name) if schema.format.as_deref() == Some("date-time") && name == "string" => "time",
        Some(name) => name,
        None => "any",
    };
    match (schema.minimum, schema.maximum) {
        (Some(least), Some(most)) => format!("{name}, {least} to {most}"),
        (Some(least), None) => format!("{name}, at least {least}"),
        (None, Some(most)) => format!("{name}, at most {most}"),
        (None, None) => format!(
            "{name}{}",
            schema.max_length.map(|most| format!(", at most {most} characters")).unwrap_or_default()
        ),
    }
}

fn at_most(most: Option<i64>) -> String {
    most.map(|most| format!(", at most {most}")).unwrap_or_default()
}

/// What an object is refused for beyond its types, in the words of the refusal.
fn refusals(page: &mut String, schema: &JSONSchemaProps) {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    // A rule whose words are made when it refuses has none to show here.
    let words: Vec<&str> = rules.filter_map(|rule| rule.message.as_deref()).collect();
    if words.is_empty() {
        return;
    }
    page.push_str("\nRefused where one of these does not hold:\n\n");
    for word in words {
        _ = writeln!(page, "- {}", word.replace('<', "&lt;"));
    }
}

/// Text that stays within its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::definition::definitions;

    #[test]
    fn every_field_of_ours_stands_on_the_page_with_its_type_default_and_words() {
        let page = page(&definitions());
        for line in [
            "### SpecializationRun `spec.training.method.lora`",
            "### RolloutBatch `spec`",
            "### SpecializationRun `status.conditions[]`",
            "| **`student`** | object |",
        ] {
            assert!(page.contains(line), "{line}");
        }
        let threshold = page.lines().find(|line| line.starts_with("| `threshold`")).unwrap();
        assert!(threshold.contains("| `\"0.5\"` |"), "{threshold}");
    }

    #[test]
    fn roles_of_pods_are_told_once_and_no_cell_breaks_its_table() {
        let page = page(&definitions());
        let roles = |line: &&str| line.starts_with("### SpecializationRun `spec.pods.") && line.ends_with("}`");
        assert_eq!(page.lines().filter(roles).count(), 1);
        for line in page.lines().filter(|line| line.starts_with("| ")) {
            assert_eq!(line.replace("\\|", "").matches('|').count(), 5, "{line}");
        }
    }
}
