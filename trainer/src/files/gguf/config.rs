//! `config.json` and `generation_config.json` from a GGUF file's metadata.

use candle_core::DType;
use serde_json::{Value, json};

use super::metadata::{Metadata, MetadataError};

/// Fields of an architecture that are read; others of it are refused by name.
const READ: [&str; 12] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "vocab_size",
];

/// Both sides' name for the token that ends a text.
const EOS: &str = "eos";

/// What `config.json` says.
pub(super) fn config(metadata: &Metadata, tied: bool, dtype: DType) -> Result<Value, MetadataError> {
    let family = metadata.text("general.architecture")?;
    let class = match family {
        "llama" => "LlamaForCausalLM",
        "qwen2" => "Qwen2ForCausalLM",
        "qwen3" => "Qwen3ForCausalLM",
        other => {
            let (field, value) = ("general.architecture".to_owned(), format!("{other:?}"));
            return Err(MetadataError::Unsupported { field, value, only: "\"llama\", \"qwen2\" or \"qwen3\"" });
        }
    };
    let field = |name: &str| format!("{family}.{name}");
    let read = |name: &str| READ.iter().any(|known| field(known) == name);
    let mut others: Vec<_> = metadata.names().filter(|name| name.starts_with(&field("")) && !read(name)).collect();
    others.sort_unstable();
    if let Some(other) = others.first() {
        return Err(MetadataError::Unknown((*other).to_owned()));
    }
    let number = |name: &str| metadata.number(&field(name));
    let (hidden, heads) = (number("embedding_length")?, number("attention.head_count")?);
    let head_dim = head_dim(metadata, &field, hidden, heads)?;
    let mut config = json!({
        "architectures": [class],
        "model_type": family,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": number("feed_forward_length")?,
        "num_hidden_layers": number("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.optional_number(&field("attention.head_count_kv"))?.unwrap_or(heads),
        "head_dim": head_dim,
        "max_position_embeddings": number("context_length")?,
        "rms_norm_eps": metadata.decimal(&field("attention.layer_norm_rms_epsilon"))?,
        "rope_theta": metadata.decimal(&field("rope.freq_base"))?,
        "tie_word_embeddings": tied,
        "torch_dtype": super::super::writer::name_of(dtype),
        "vocab_size": metadata.texts("tokenizer.ggml.tokens")?.len(),
    });
    for (name, id) in token_ids(metadata)? {
        config[name] = id;
    }
    Ok(config)
}

fn head_dim(
    metadata: &Metadata,
    field: &impl Fn(&str) -> String,
    hidden: u64,
    heads: u64,
) -> Result<u64, MetadataError> {
    let head_dim = match metadata.optional_number(&field("attention.key_length"))? {
        Some(length) => length,
        None => hidden.checked_div(heads).unwrap_or_default(),
    };
    for name in ["attention.value_length", "rope.dimension_count"] {
        let field = field(name);
        match metadata.optional_number(&field)? {
            Some(other) if other != head_dim => {
                let only = "the width of a head, as that of its keys,";
                return Err(MetadataError::Unsupported { field, value: other.to_string(), only });
            }
            _ => {}
        }
    }
    Ok(head_dim)
}

/// The tokens that have a role, by its name in Hugging Face's files.
pub(super) fn special_ids(metadata: &Metadata) -> Result<Vec<(&'static str, u64)>, MetadataError> {
    let roles = [("bos", "bos"), (EOS, EOS), ("pad", "padding"), ("unk", "unknown")];
    let id = |(name, theirs): (&'static str, &str)| Some((name, token_id(metadata, theirs).transpose()?));
    roles.into_iter().filter_map(id).map(|(name, id)| Ok((name, id?))).collect()
}

/// The token of a role, by llama.cpp's name for it.
fn token_id(metadata: &Metadata, role: &str) -> Result<Option<u64>, MetadataError> {
    metadata.optional_number(&format!("tokenizer.ggml.{role}_token_id"))
}

/// The tokens that end an answer: of the text, of a turn, of a message. llama.cpp stops at each of them.
fn end_ids(metadata: &Metadata) -> Result<Vec<u64>, MetadataError> {
    let mut ends = Vec::new();
    for role in [EOS, "eot", "eom"] {
        let new = token_id(metadata, role)?.filter(|end| !ends.contains(end));
        ends.extend(new);
    }
    Ok(ends)
}

/// What `generation_config.json` says: where generation begins and ends.
pub(super) fn generation(metadata: &Metadata) -> Result<Value, MetadataError> {
    Ok(Value::Object(token_ids(metadata)?.collect()))
}

/// The tokens that have a role, as configurations name them. transformers keeps the fourth of them with the tokenizer alone.
fn token_ids(metadata: &Metadata) -> Result<impl Iterator<Item = (String, Value)>, MetadataError> {
    let one = |role: &str| Ok(token_id(metadata, role)?.map(Value::from));
    let ends = end_ids(metadata)?;
    let ends = match ends[..] {
        [] => None,
        [only] => Some(Value::from(only)),
        _ => Some(Value::from(ends)),
    };
    let ids = [("bos", one("bos")?), (EOS, ends), ("pad", one("padding")?)];
    Ok(ids.into_iter().filter_map(|(name, id)| Some((format!("{name}_token_id"), id?))))
}
