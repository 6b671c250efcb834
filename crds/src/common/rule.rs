//! How the rules at the root of both kinds are written.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use kube::core::Rule;

use crate::values::{TextValue, Timeout};

/// Sections that may be absent as a whole and have fields with rules of their own.
const OPTIONAL_PARENTS: [&str; 2] = ["spec.teacher.serve", "spec.generation"];

/// That a text fits the pattern of its field, with a sentence on what is expected: the API server answers a pattern that
/// does not fit with the pattern alone.
pub(crate) fn fits(pattern: &str, expected: &str) -> Rule {
    Rule::new(format!("self.matches(r'{pattern}')")).message(format!("must be {expected}").as_str())
}

/// What holds for the number in the text of `field`, such as `<= 0.5`. A text that is no number is refused by its type
/// alone; asked here, it would break the rule and say nothing of use.
pub(crate) fn number(field: &str, holds: &str) -> String {
    format!("!self.{field}.matches(r'{NUMBER}') || double(self.{field}) {holds}")
}

/// That the span of time in the text of one field is not above that of another, under the same reserve as `number`.
pub(crate) fn not_above(shorter: &str, longer: &str) -> String {
    format!(
        "[self.{shorter}, self.{longer}].exists(text, !text.matches(r'{}')) || duration(self.{shorter}) <= duration(self.{longer})",
        Timeout::PATTERN
    )
}

/// The most characters that the names and values of one list of variables have together: each may be long, not all of them, so that the largest object
/// is still admitted quickly.
const MAX_VARIABLE_CHARS: u32 = 4_096;
/// The most characters that one list of arguments has together, for the same reason.
const MAX_ARGUMENT_CHARS: u32 = 4_096;

/// That the variables in `field` are not too long together.
pub(crate) fn short_variables(field: &str) -> Rule {
    let size = format!("self.{field}.map(v, size(v.name) + size(v.value)).sum()");
    short_together(field, &size, "names and values", MAX_VARIABLE_CHARS)
}

/// That the arguments in `field` are not too long together.
pub(crate) fn short_arguments(field: &str) -> Rule {
    short_together(field, &format!("self.{field}.join().size()"), "they", MAX_ARGUMENT_CHARS)
}

fn short_together(field: &str, size: &str, what: &str, most: u32) -> Rule {
    Rule::new(format!("!has(self.{field}) || {size} <= {most}"))
        .message(format!("{what} must have at most {most} characters together").as_str())
        .field_path(format!(".{field}"))
}

/// A text that CEL's `double` reads and that is neither infinite nor NaN.
pub(crate) const NUMBER: &str = r"^[0-9]+([.][0-9]+)?$";

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
            "self.metadata.name.size() <= {longest} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
        ),
        message: Some(format!(
            "the name of a {kind} must be at most {longest} lower-case letters, digits and '-', beginning with a letter and not ending with '-': pods and Services are named after it"
        )),
        field_path: Some(".metadata.name".to_owned()),
        ..ValidationRule::default()
    }
}

/// That a status, once written, is not taken away as a whole.
pub(crate) fn kept_status() -> ValidationRule {
    ValidationRule {
        rule: "!has(oldSelf.status) || has(self.status)".to_owned(),
        message: Some("status cannot be taken back".to_owned()),
        field_path: Some(".status".to_owned()),
        ..ValidationRule::default()
    }
}
