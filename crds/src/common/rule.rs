//! How the rules at the root of both kinds are written.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

/// Sections that may be absent as a whole and have fields with rules of their own.
const OPTIONAL_PARENTS: [&str; 2] = ["spec.teacher.serve", "spec.generation"];

/// A rule that refuses a change of something that can no longer be changed.
pub(crate) fn forbidden(rule: String, message: String, field_path: &str) -> ValidationRule {
    ValidationRule {
        rule,
        message: Some(message),
        field_path: Some(field_path.to_owned()),
        reason: Some("FieldValueForbidden".to_owned()),
        ..ValidationRule::default()
    }
}

/// That a field is the same in both states, and neither came nor went. A field of a section that is absent in one of
/// them is that section's business.
pub(crate) fn unchanged(path: &str) -> String {
    let same =
        format!("has(self.{path}) == has(oldSelf.{path}) && (!has(self.{path}) || self.{path} == oldSelf.{path})");
    match OPTIONAL_PARENTS.iter().find(|parent| path.strip_prefix(**parent).is_some_and(|rest| rest.starts_with('.'))) {
        Some(parent) => format!("!has(self.{parent}) || !has(oldSelf.{parent}) || ({same})"),
        None => same,
    }
}

/// That the object's name leaves room for what pods' host names are made of.
pub(crate) fn name_rule(kind: &str, longest: usize) -> ValidationRule {
    ValidationRule {
        rule: format!(
            "self.metadata.name.size() <= {longest} && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')"
        ),
        message: Some(format!(
            "metadata.name: the name of a {kind} must be at most {longest} lower-case letters, digits and '-', with a letter or digit at both ends: pods are named after it"
        )),
        ..ValidationRule::default()
    }
}

/// That a status, once written, is not taken away as a whole.
pub(crate) fn kept_status() -> ValidationRule {
    ValidationRule {
        rule: "!has(oldSelf.status) || has(self.status)".to_owned(),
        message: Some("status cannot be taken back".to_owned()),
        ..ValidationRule::default()
    }
}
