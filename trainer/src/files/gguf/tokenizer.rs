//! `tokenizer.json` and `tokenizer_config.json` from a GGUF file's metadata: byte-level BPE, split as the named pre-tokenizer splits.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::config::special_ids;
use super::metadata::{Metadata, MetadataError};

/// Tokens that stand for what is no text (llama.cpp's `LLAMA_TOKEN_TYPE_CONTROL`).
const CONTROL: u64 = 3;
/// Tokens that were added, and are text (`LLAMA_TOKEN_TYPE_USER_DEFINED`).
const USER_DEFINED: u64 = 4;

/// The field that says how texts are cut.
const PRE: &str = "tokenizer.ggml.pre";

/// How Qwen2 cuts texts before it looks for tokens (its published `tokenizer.json`).
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What is wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A field of the metadata.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// There are not as many types as tokens.
    #[error("`tokenizer.ggml.token_type` has {types} entries, and `tokenizer.ggml.tokens` {tokens}")]
    Types {
        /// How many types.
        types: usize,
        /// How many tokens.
        tokens: usize,
    },
    /// Two tokens with the same text.
    #[error("`tokenizer.ggml.tokens` has {0:?} twice")]
    Twice(String),
    /// A merge of what is no token.
    #[error("`tokenizer.ggml.merges` has {0:?}, which does not join two tokens to a third")]
    Merge(String),
    /// A token that is not there.
    #[error("`tokenizer.ggml` speaks of token {id}, and there are {tokens}")]
    Token {
        /// Its number.
        id: u64,
        /// How many tokens there are.
        tokens: usize,
    },
    /// More tokens than the embedding has rows.
    #[error("there are {tokens} tokens, and the embedding has {rows} rows")]
    Rows {
        /// How many tokens.
        tokens: usize,
        /// How many rows.
        rows: usize,
    },
}

/// The files of the tokenizer of a model whose embedding has `rows`, by name.
pub(super) fn files(metadata: &Metadata, rows: usize) -> Result<Vec<(String, Vec<u8>)>, TokenizerError> {
    require(metadata, "tokenizer.ggml.model", "\"gpt2\" (byte-level BPE)", |model| model == "gpt2")?;
    let tokens = metadata.texts("tokenizer.ggml.tokens")?;
    if tokens.len() > rows {
        return Err(TokenizerError::Rows { tokens: tokens.len(), rows });
    }
    let added = added(metadata, &tokens)?;
    let tokenizer = tokenizer(metadata, &tokens, &added)?;
    let config = config(metadata, &tokens, &added)?;
    // A model's file is long; nobody reads it, so that it stays as compact as it can be.
    let tokenizer = ("tokenizer.json".to_owned(), tokenizer.to_string().into_bytes());
    Ok(vec![tokenizer, ("tokenizer_config.json".to_owned(), format!("{config:#}\n").into_bytes())])
}

fn require(
    metadata: &Metadata,
    field: &str,
    only: &'static str,
    is: impl Fn(&str) -> bool,
) -> Result<(), MetadataError> {
    let value = metadata.text(field)?;
    if is(value) {
        return Ok(());
    }
    Err(MetadataError::Unsupported { field: field.to_owned(), value: format!("{value:?}"), only })
}

/// The tokens that are looked for before anything else: their numbers, and whether they stand for what is no text.
fn added(metadata: &Metadata, tokens: &[&str]) -> Result<Vec<(usize, bool)>, TokenizerError> {
    let types = metadata.numbers("tokenizer.ggml.token_type")?;
    if types.len() != tokens.len() {
        return Err(TokenizerError::Types { types: types.len(), tokens: tokens.len() });
    }
    let kinds = types.into_iter().enumerate().filter(|(_, kind)| [CONTROL, USER_DEFINED].contains(kind));
    Ok(kinds.map(|(id, kind)| (id, kind == CONTROL)).collect())
}

fn tokenizer(metadata: &Metadata, tokens: &[&str], added: &[(usize, bool)]) -> Result<Value, TokenizerError> {
    let mut vocabulary = HashMap::new();
    for (id, token) in tokens.iter().enumerate() {
        if vocabulary.insert(*token, id).is_some() {
            return Err(TokenizerError::Twice((*token).to_owned()));
        }
    }
    let merge = |merge: &str| {
        let pair = merge.split_once(' ').filter(|(left, right)| {
            [*left, *right, &format!("{left}{right}")].iter().all(|token| vocabulary.contains_key(token))
        });
        pair.map(|(left, right)| json!([left, right])).ok_or_else(|| TokenizerError::Merge(merge.to_owned()))
    };
    let merges = metadata.texts("tokenizer.ggml.merges")?.into_iter().map(merge).collect::<Result<Vec<_>, _>>()?;
    let vocabulary: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    let added: Vec<_> = added.iter().map(|(id, special)| added_token(*id, tokens[*id], *special)).collect();
    let (normalizer, pre_tokenizer) = splitting(metadata)?;
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": merges
        }
    }))
}

fn added_token(id: usize, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
}

/// How texts are normalised and cut before tokens are looked for.
fn splitting(metadata: &Metadata) -> Result<(Value, Value), TokenizerError> {
    let byte_level =
        |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let then = |first: Value, regex: bool| json!({"type": "Sequence", "pretokenizers": [first, byte_level(regex)]});
    if metadata.flag("tokenizer.ggml.add_bos_token")? || metadata.flag("tokenizer.ggml.add_space_prefix")? {
        let (field, value) = ("tokenizer.ggml.add_bos_token or add_space_prefix".to_owned(), "true".to_owned());
        return Err(MetadataError::Unsupported { field, value, only: "false" }.into());
    }
    match metadata.text(PRE)? {
        "smollm" => Ok((Value::Null, then(json!({"type": "Digits", "individual_digits": true}), true))),
        "qwen2" => {
            let split = json!({"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false});
            Ok((json!({"type": "NFC"}), then(split, false)))
        }
        other => {
            let (field, value) = (PRE.to_owned(), format!("{other:?}"));
            Err(MetadataError::Unsupported { field, value, only: "\"smollm\" or \"qwen2\"" }.into())
        }
    }
}

fn config(metadata: &Metadata, tokens: &[&str], added: &[(usize, bool)]) -> Result<Value, TokenizerError> {
    let without_id = |(id, special): &(usize, bool)| {
        let mut token = added_token(*id, tokens[*id], *special);
        token.as_object_mut().into_iter().for_each(|token| drop(token.shift_remove("id")));
        (id.to_string(), token)
    };
    let decoder: Map<String, Value> = added.iter().map(without_id).collect();
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false, "added_tokens_decoder": decoder
    });
    for (name, id) in special_ids(metadata)? {
        let token = usize::try_from(id).ok().and_then(|id| tokens.get(id));
        let token = token.ok_or(TokenizerError::Token { id, tokens: tokens.len() })?;
        config[format!("{name}_token")] = (*token).into();
    }
    let architecture = metadata.text("general.architecture")?;
    if let Some(length) = metadata.optional_number(&format!("{architecture}.context_length"))? {
        config["model_max_length"] = length.into();
    }
    if let Some(template) = metadata.optional_text("tokenizer.chat_template")? {
        config["chat_template"] = template.into();
    }
    Ok(config)
}
