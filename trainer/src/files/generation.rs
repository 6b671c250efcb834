//! What a model's files say of generation: which tokens end an answer, and how long a context the model was trained with.

use std::io::{Error, ErrorKind};
use std::path::Path;

use serde_json::{Map, Value};

use super::FilesError;
use super::model_dir::CONFIG;

/// The file that says how answers are made; transformers looks there before it looks into the configuration.
pub(super) const GENERATION: &str = "generation_config.json";
/// Its field for the tokens that end an answer.
const ENDS: &str = "eos_token_id";
/// What transformers takes from the configuration where there is no such file, as far as it is about tokens.
const TOKENS: [&str; 3] = ["bos_token_id", ENDS, "pad_token_id"];

/// What is said of generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generation {
    /// The tokens that end an answer: those of `generation_config.json`, or else of `config.json`.
    pub ends: Vec<u32>,
    /// `max_position_embeddings` of `config.json`.
    pub context: Option<usize>,
}

impl Generation {
    /// The same, where this token ends an answer too.
    #[must_use]
    pub fn ended_by(mut self, end: Option<u32>) -> Self {
        let new = end.filter(|end| !self.ends.contains(end));
        self.ends.extend(new);
        self
    }
}

/// Reads it from the files of a model in `folder`, which `read` gives by their names. A file that is missing says nothing.
pub fn generation(folder: &Path, read: impl Fn(&str) -> Result<Vec<u8>, Error>) -> Result<Generation, FilesError> {
    let mut said = Generation::default();
    for name in [GENERATION, CONFIG] {
        let Some(fields) = fields(folder, name, &read)? else { continue };
        let wrong = |field, expected| FilesError::Generation { path: folder.join(name), field, expected };
        if said.ends.is_empty() {
            let ends = fields.get(ENDS).map_or_else(|| Some(Vec::new()), ends);
            said.ends = ends.ok_or_else(|| wrong(ENDS, "a token's number or a list of such"))?;
        }
        let context = fields.get("max_position_embeddings").filter(|context| name == CONFIG && !context.is_null());
        if let Some(context) = context {
            let number = context.as_u64().and_then(|number| usize::try_from(number).ok());
            said.context = Some(number.ok_or_else(|| wrong("max_position_embeddings", "a number of tokens"))?);
        }
    }
    Ok(said)
}

/// `generation_config.json` as it has to be for answers to end with `end` too: what is there already stays. None where the files say so as they are.
pub(super) fn with_end(
    folder: &Path,
    read: impl Fn(&str) -> Result<Vec<u8>, Error>,
    end: u32,
) -> Result<Option<Vec<u8>>, FilesError> {
    let (said, generation) = (generation(folder, &read)?, fields(folder, GENERATION, &read)?);
    // Where there is such a file, transformers does not look for ends anywhere else.
    let names_none = generation.as_ref().is_some_and(|fields| fields.get(ENDS).is_none_or(Value::is_null));
    if said.ends.contains(&end) && !names_none {
        return Ok(None);
    }
    let mut generation = if let Some(generation) = generation {
        generation
    } else {
        let mut config = fields(folder, CONFIG, &read)?.unwrap_or_default();
        config.retain(|name, _| TOKENS.contains(&name.as_str()));
        config
    };
    generation.insert(ENDS.to_owned(), said.ended_by(Some(end)).ends.into());
    Ok(Some(format!("{:#}\n", Value::Object(generation)).into_bytes()))
}

/// The fields of a file that need not be there.
fn fields(
    folder: &Path,
    name: &str,
    read: impl Fn(&str) -> Result<Vec<u8>, Error>,
) -> Result<Option<Map<String, Value>>, FilesError> {
    let path = folder.join(name);
    let text = match read(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(FilesError::read(&path))?,
    };
    let fields = serde_json::from_slice(&text);
    fields.map(Some).map_err(|error| FilesError::Json { path, problem: error.to_string() })
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
    use serde_json::json;

    use super::*;

    fn reader(generation_json: Option<&str>, config_json: &str) -> impl Fn(&str) -> Result<Vec<u8>, Error> {
        move |name| match name {
            CONFIG => Ok(config_json.as_bytes().to_vec()),
            _ => generation_json.map(|text| text.as_bytes().to_vec()).ok_or_else(|| ErrorKind::NotFound.into()),
        }
    }

    fn of(generation_json: Option<&str>, config_json: &str) -> Result<Generation, FilesError> {
        generation(Path::new("model"), reader(generation_json, config_json))
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

    #[test]
    fn a_token_that_ends_answers_too_is_added_to_what_the_files_say() {
        let written = |generation_json: Option<&str>, config_json| {
            let file = with_end(Path::new("model"), reader(generation_json, config_json), 9).unwrap();
            file.map(|file| serde_json::from_slice::<Value>(&file).unwrap())
        };
        let config = r#"{"vocab_size": 10, "bos_token_id": 1, "eos_token_id": 2}"#;
        assert_eq!(written(None, config), Some(json!({"bos_token_id": 1, "eos_token_id": [2, 9]})));
        assert_eq!(written(None, "{}"), Some(json!({"eos_token_id": [9]})));
        let generation = r#"{"eos_token_id": [3, 4], "temperature": 0.7}"#;
        assert_eq!(written(Some(generation), config), Some(json!({"eos_token_id": [3, 4, 9], "temperature": 0.7})));
        assert_eq!(written(Some(r#"{"top_k": 20}"#), config), Some(json!({"top_k": 20, "eos_token_id": [2, 9]})));
        assert_eq!(written(Some("{}"), r#"{"eos_token_id": 9}"#), Some(json!({"eos_token_id": [9]})));
        assert_eq!(written(None, r#"{"eos_token_id": 9}"#), None);
        for said in ["[3, 9]", "9"] {
            assert_eq!(written(Some(&format!("{{\"eos_token_id\": {said}}}")), config), None);
        }
    }
}
