//! Whether the server's answer is the one that a case asks for. No requests are made here.

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::{
    cases::Refused,
    server::{Answer, Refusal},
};

/// What the API server adds, on no field, where a wrong schema kept it from evaluating the CEL rules.
const RULES_SKIPPED: &str = "some validation rules were not checked";

/// What the API server says by itself where a `pattern` does not match: a regular expression, and nothing else.
const BARE_PATTERN: &str = "should match '";

/// What the API server says where a rule could not be evaluated, so that the user reads about CEL instead of the spec.
const BROKEN_RULE: &str = " evaluating rule: ";

/// Fails, saying why, where `answer` is not what the case asks for.
pub(crate) fn judge(answer: &Answer, refused: Option<&Refused>, shows: &Value) -> Result<()> {
    match (answer, refused) {
        (Answer::Admitted(object), None) => contains(object, shows, ""),
        (Answer::Refused(refusal), Some(expected)) => {
            names_the_field(refusal, expected)?;
            says_why(refusal, expected)
        }
        (Answer::Admitted(_), Some(expected)) => bail!("admitted, but to be refused at {}", expected.at.join()),
        (Answer::Refused(refusal), None) => bail!("refused, but to be admitted:\n{refusal}"),
    }
}

/// The refusal names the fields asked for, and since each case is wrong in one way, no other.
fn names_the_field(refusal: &Refusal, expected: &Refused) -> Result<()> {
    for field in expected.at.as_slice() {
        ensure!(refusal.causes.iter().any(|cause| cause.field == *field), "refused, but not at {field}:\n{refusal}");
    }
    for cause in &refusal.causes {
        let asked_for = expected.at.as_slice().contains(&cause.field) || cause.message.contains(RULES_SKIPPED);
        ensure!(asked_for, "wrong in one way, but refused at {} as well:\n{refusal}", cause.field);
    }
    Ok(())
}

/// The refusal uses the words asked for, nothing about CEL, and more than a regular expression for each field, unless
/// that is what the case asks for.
fn says_why(refusal: &Refusal, expected: &Refused) -> Result<()> {
    for fragment in expected.says.as_slice() {
        let said = refusal.causes.iter().any(|cause| cause.message.contains(fragment));
        ensure!(said, "refused without saying {fragment:?}:\n{refusal}");
    }
    let broken = refusal.causes.iter().any(|cause| cause.message.contains(BROKEN_RULE));
    ensure!(!broken, "a rule broke instead of saying what is wrong:\n{refusal}");
    if expected.says.as_slice().iter().any(|fragment| fragment == BARE_PATTERN) {
        return Ok(());
    }
    for field in expected.at.as_slice() {
        let in_words = |message: &str| !message.contains(BARE_PATTERN);
        let explained = refusal.causes.iter().any(|cause| cause.field == *field && in_words(&cause.message));
        ensure!(explained, "{field} is refused by a regular expression alone, which helps no user:\n{refusal}");
    }
    Ok(())
}

/// `object` holds all of `part`, and nothing where `part` holds a `null`; `path` says where in the object this is.
fn contains(object: &Value, part: &Value, path: &str) -> Result<()> {
    let Value::Object(fields) = part else {
        ensure!(object == part || part.is_null(), "{path} is {object}, but to be {part}");
        return Ok(());
    };
    for (name, part) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (object.get(name), part) {
            (None, Value::Null) => {}
            (Some(found), Value::Null) => bail!("{path} is {found}, but to be absent"),
            (None, part) => bail!("{path} is absent, but to be {part}"),
            (Some(found), part) => contains(found, part, &path)?,
        }
    }
    Ok(())
}
