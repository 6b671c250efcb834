//! Reads the tokenizer of a Hugging Face model directory: `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and the chat template,
//! wherever it is kept. Nothing is downloaded.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

/// Why a directory has no chat model's tokenizer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file is missing, or may not be read.
    #[error("cannot read {}: {source}; the directory of a model as Hugging Face lays it out is needed", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file has something else in it.
    #[error("{} is not the file of a tokenizer: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The model has no chat template: a base model, which has not learnt to converse.
    #[error("{} has no chat template: neither chat_template.jinja nor a chat_template in tokenizer_config.json; take the instruction-tuned model", folder.display())]
    NoTemplate {
        /// The directory.
        folder: PathBuf,
    },
    /// The two files disagree about a token.
    #[error(
        "tokenizer_config.json says that token {id} is {token:?}, and tokenizer.json does not: take both from one model"
    )]
    Disagreement {
        /// The token's number.
        id: u32,
        /// Its text.
        token: String,
    },
}

/// What a directory has.
pub(crate) struct Files {
    pub(crate) tokenizer: Tokenizer,
    /// The sha256 of `tokenizer.json`, in lower-case hexadecimal.
    pub(crate) tokenizer_sha256: String,
    pub(crate) template: String,
    /// A second template, for conversations with tools.
    pub(crate) tool_use: Option<String>,
    /// The special tokens by the names that templates know them by, such as `eos_token`.
    pub(crate) special_tokens: BTreeMap<String, String>,
}

/// Reads a directory, or what stands for one: `get` gives its files by their names.
pub(crate) fn read(folder: &Path, get: Get) -> Result<Files, FilesError> {
    let path = folder.join("tokenizer.json");
    let content = get("tokenizer.json").map_err(|source| FilesError::Read { path: path.clone(), source })?;
    let malformed = |problem: String| FilesError::Malformed { path: path.clone(), problem };
    let mut tokenizer = Tokenizer::from_bytes(&content).map_err(|error| malformed(error.to_string()))?;
    // A cut or filling that was saved with the tokenizer is a habit of whoever saved it: transformers sets them anew for each call.
    tokenizer.with_truncation(None).map_err(|error| malformed(error.to_string()))?;
    tokenizer.with_padding(None);

    let config = object(folder, "tokenizer_config.json", get)?.unwrap_or_default();
    agree(&tokenizer, &config)?;
    let mut special_tokens = BTreeMap::new();
    for source in [object(folder, "special_tokens_map.json", get)?.unwrap_or_default(), config.clone()] {
        special_tokens.extend(named_tokens(&source));
    }
    let (template, tool_use) = templates(folder, get, &config)?;
    Ok(Files { tokenizer, tokenizer_sha256: sha256(&content), template, tool_use, special_tokens })
}

/// Gives a file by its name.
pub(crate) type Get<'a> = &'a dyn Fn(&str) -> std::io::Result<Vec<u8>>;

/// The sha256 of some bytes, in lower-case hexadecimal.
pub(crate) fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// A file that need not be there.
fn optional(folder: &Path, name: &str, get: Get) -> Result<Option<Vec<u8>>, FilesError> {
    match get(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FilesError::Read { path: folder.join(name), source }),
        Ok(content) => Ok(Some(content)),
    }
}

fn object(folder: &Path, name: &str, get: Get) -> Result<Option<Map<String, Value>>, FilesError> {
    let Some(content) = optional(folder, name, get)? else { return Ok(None) };
    let problem =
        |error: serde_json::Error| FilesError::Malformed { path: folder.join(name), problem: error.to_string() };
    serde_json::from_slice(&content).map(Some).map_err(problem)
}

fn text(folder: &Path, name: &str, get: Get) -> Result<Option<String>, FilesError> {
    let Some(content) = optional(folder, name, get)? else { return Ok(None) };
    let problem = |_| FilesError::Malformed { path: folder.join(name), problem: "it is no UTF-8".to_owned() };
    String::from_utf8(content).map(Some).map_err(problem)
}

/// transformers adds the tokens of the configuration to those of the tokenizer; where that would change anything, the files are of two models.
fn agree(tokenizer: &Tokenizer, config: &Map<String, Value>) -> Result<(), FilesError> {
    for (id, token) in config.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
        let (Ok(id), Some(token)) = (id.parse(), token_text(token)) else { continue };
        if tokenizer.token_to_id(&token) != Some(id) {
            return Err(FilesError::Disagreement { id, token });
        }
    }
    Ok(())
}

fn named_tokens(source: &Map<String, Value>) -> impl Iterator<Item = (String, String)> {
    const NAMES: [&str; 7] =
        ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    NAMES.into_iter().filter_map(|name| Some((name.to_owned(), token_text(source.get(name)?)?)))
}

/// A token, written as a string or with its properties around it.
fn token_text(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

/// The template and the one for tools. Files of their own go before the configuration's; there, it is one text, or several by name.
fn templates(folder: &Path, get: Get, config: &Map<String, Value>) -> Result<(String, Option<String>), FilesError> {
    let tool_use = text(folder, "additional_chat_templates/tool_use.jinja", get)?;
    if let Some(template) = text(folder, "chat_template.jinja", get)? {
        return Ok((template, tool_use));
    }
    let missing = || FilesError::NoTemplate { folder: folder.to_owned() };
    match config.get("chat_template") {
        Some(Value::String(template)) => Ok((template.clone(), tool_use)),
        Some(Value::Array(named)) => {
            let by_name = |name: &str| {
                let found = named.iter().find(|template| template.get("name").and_then(Value::as_str) == Some(name));
                found.and_then(|template| template.get("template")?.as_str()).map(str::to_owned)
            };
            Ok((by_name("default").ok_or_else(missing)?, by_name("tool_use")))
        }
        _ => Err(missing()),
    }
}
