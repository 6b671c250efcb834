//! Settings from a file, or from a variable of the environment, which is how the operator hands them over.

use std::path::Path;

use sera_crds::contract::{Failure, FailureClass};
use serde::de::DeserializeOwned;

/// Settings that must be given.
pub fn required<T: DeserializeOwned>(file: Option<&Path>, flag: &str, variable: &str) -> Result<T, Failure> {
    given(file, variable)?
        .ok_or_else(|| invalid(format!("settings are missing: give a file with {flag}, or {variable}")))
}

/// Settings, where they are given.
pub fn given<T: DeserializeOwned>(file: Option<&Path>, variable: &str) -> Result<Option<T>, Failure> {
    let (text, origin) = match (file, std::env::var(variable)) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| invalid(format!("{} cannot be read: {error}", file.display())))?;
            (text, file.display().to_string())
        }
        (None, Ok(text)) => (text, variable.to_owned()),
        (None, Err(_)) => return Ok(None),
    };
    // JSON is YAML too.
    serde_yaml::from_str(&text)
        .map(Some)
        .map_err(|error| invalid(format!("{origin} has other settings than are asked for: {error}")))
}

fn invalid(message: String) -> Failure {
    Failure { class: FailureClass::Configuration, reason: "InvalidSettings".to_owned(), field: None, message }
}
