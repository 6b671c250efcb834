//! The protocol's answers, as far as they are read: whole ones and pieces of a stream. Servers differ in what they leave out and add; nothing that
//! is not needed is insisted on.

use sera_crds::contract::Usage;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A whole answer, or a piece of one.
#[derive(Debug, Deserialize)]
pub(super) struct Completion {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) choices: Vec<Choice>,
    #[serde(default)]
    pub(super) usage: Option<Counts>,
    #[serde(default)]
    pub(super) error: Option<Value>,
}

/// One of the answers; only one is ever asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    #[serde(alias = "delta", default, deserialize_with = "or_default")]
    pub(super) message: Piece,
    #[serde(default)]
    pub(super) finish_reason: Option<String>,
}

/// A message, or what is added to it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Piece {
    #[serde(default, deserialize_with = "text")]
    pub(super) content: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) reasoning_content: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) reasoning: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) tool_calls: Vec<CallPiece>,
}

/// A tool call, or what is added to it.
#[derive(Debug, Deserialize)]
pub(super) struct CallPiece {
    #[serde(default)]
    pub(super) index: Option<usize>,
    #[serde(default, deserialize_with = "text")]
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) function: FunctionPiece,
}

/// A call's function, or what is added to it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct FunctionPiece {
    #[serde(default, deserialize_with = "text")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) arguments: String,
}

/// Token counts.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Counts {
    #[serde(default, deserialize_with = "or_default")]
    prompt_tokens: u64,
    #[serde(default, deserialize_with = "or_default")]
    completion_tokens: u64,
    #[serde(default, deserialize_with = "or_default")]
    prompt_tokens_details: PromptDetails,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct PromptDetails {
    #[serde(default, deserialize_with = "or_default")]
    cached_tokens: u64,
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        Self {
            calls: 1,
            prompt_tokens: counts.prompt_tokens,
            cached_tokens: counts.prompt_tokens_details.cached_tokens.min(counts.prompt_tokens),
            completion_tokens: counts.completion_tokens,
        }
    }
}

/// `null` means the same as nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A text; `null` is an empty one. What is neither (a list of parts, arguments as an object) is read for its text or taken as JSON.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Null => String::new(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        other => other.to_string(),
    })
}
