//! What a model's files say of generation: which tokens end an answer, and how long a context the model was trained with.

use std::io::{Error, ErrorKind};
use std::path::Path;

use serde_json::Value;

use super::FilesError;

/// What is said of generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generation {
    /// The tokens that end an answer: those of `generation_config.json`, or else of `config.json`.
    pub ends: Vec<u32>,
    /// `max_position_embeddings` of `config.json`.
    pub context: Option<usize>,
}

/// Reads it from the files of a model in `folder`, which `read` gives by their names. A file that is missing says nothing.
pub fn generation(folder: &Path, read: impl Fn(&str) -> Result<Vec<u8>, Error>) -> Result<Generation, FilesError> {
    let mut said = Generation::default();
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        let text = match read(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            text => text.map_err(FilesError::read(&path))?,
        };
        let fields = serde_json::from_slice::<Value>(&text);
        let fields = fields.map_err(|error| FilesError::Json { path: path.clone(), problem: error.to_string() })?;
        let wrong = |field, expected| FilesError::Generation { path: path.clone(), field, expected };
        if said.ends.is_empty() {
            let ends = ends(&fields["eos_token_id"]);
            said.ends = ends.ok_or_else(|| wrong("eos_token_id", "a token's number or a list of such"))?;
        }
        let context = &fields["max_position_embeddings"];
        if name == "config.json" && !context.is_null() {
            let number = context.as_u64().and_then(|number| usize::try_from(number).ok());
            said.context = Some(number.ok_or_else(|| wrong("max_position_embeddings", "a number of tokens"))?);
        }
    }
    Ok(said)
}

/// One token, several, or none.
fn ends(field: &Value) -> Option<Vec<u32>> {
    let id = |id: &Value| u32::try_from(id.as_u64()?).ok();
    match field {
        Value::Null => Some(Vec::new()),
        Value::Array(ids) => ids.iter().map(id).collect(),
        one => id(one).map(|one| vec![one]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(generation_json: Option<&str>, config_json: &str) -> Result<Generation, FilesError> {
        generation(Path::new("model"), |name| match name {
            "config.json" => Ok(config_json.as_bytes().to_vec()),
            _ => generation_json.map(|text| text.as_bytes().to_vec()).ok_or_else(|| ErrorKind::NotFound.into()),
        })
    }

    #[test]
    fn the_ends_are_those_of_generation_before_those_of_the_model() {
        let config = r#"{"eos_token_id": 2, "max_position_embeddings": 8192}"#;
        let context = Some(8192);
        assert_eq!(of(None, config).unwrap(), Generation { ends: vec![2], context });
        assert_eq!(of(Some(r#"{"eos_token_id": [5, 7]}"#), config).unwrap(), Generation { ends: vec![5, 7], context });
        assert_eq!(of(Some("{}"), config).unwrap().ends, [2]);
        assert_eq!(of(None, "{}").unwrap(), Generation::default());
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_file_and_field() {
        let said = |generation_json, config| of(generation_json, config).unwrap_err().to_string();
        let wrong = said(Some(r#"{"eos_token_id": "x"}"#), "{}");
        assert_eq!(wrong, "model/generation_config.json: `eos_token_id` is not a token's number or a list of such");
        let wrong = said(None, r#"{"max_position_embeddings": -1}"#);
        assert_eq!(wrong, "model/config.json: `max_position_embeddings` is not a number of tokens");
        assert!(said(Some("{"), "{}").starts_with("model/generation_config.json is not a JSON object"));
    }
}
