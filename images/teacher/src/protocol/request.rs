//! A chat completion as it is asked for. Fields that no program could honour (temperature and its kin) are taken and not looked at.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `POST /v1/chat/completions`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    pub(crate) messages: Vec<WireMessage>,
    #[serde(default)]
    pub(crate) tools: Option<Vec<Tool>>,
    /// `"none"` forbids calls; everything else allows them.
    #[serde(default)]
    pub(crate) tool_choice: Option<Value>,
    #[serde(default)]
    pub(crate) stream: Option<bool>,
    #[serde(default)]
    pub(crate) stream_options: Option<StreamOptions>,
    /// What the answer is to be drawn from, beside the teacher's own seed.
    #[serde(default)]
    pub(crate) seed: Option<i64>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct StreamOptions {
    #[serde(default)]
    pub(crate) include_usage: bool,
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

/// A message of the conversation.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WireMessage {
    pub(crate) role: Role,
    #[serde(default)]
    pub(crate) content: Option<Content>,
    #[serde(default, alias = "reasoning")]
    pub(crate) reasoning_content: Option<String>,
    #[serde(default)]
    pub(crate) tool_calls: Option<Vec<WireCall>>,
}

/// A message's text: in one piece, or in parts.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Part {
    #[serde(default)]
    text: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WireCall {
    pub(crate) function: WireFunction,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WireFunction {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) arguments: Value,
}

/// A tool that is offered.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Tool {
    pub(crate) function: ToolFunction,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct ToolFunction {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) parameters: Map<String, Value>,
}

impl ChatRequest {
    /// The most tokens that the answer may have.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// The tools that may be called.
    pub(crate) fn callable(&self) -> &[Tool] {
        if self.tool_choice.as_ref().and_then(Value::as_str) == Some("none") {
            return &[];
        }
        self.tools.as_deref().unwrap_or_default()
    }
}

impl WireMessage {
    /// A message of the teacher's.
    pub(crate) fn assistant<'a>(text: &str, thinking: &str, calls: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let calls: Vec<WireCall> = calls
            .map(|(name, arguments)| WireCall {
                function: WireFunction { name: name.to_owned(), arguments: Value::String(arguments.to_owned()) },
            })
            .collect();
        Self {
            role: Role::Assistant,
            content: Some(Content::Text(text.to_owned())),
            reasoning_content: (!thinking.is_empty()).then(|| thinking.to_owned()),
            tool_calls: (!calls.is_empty()).then_some(calls),
        }
    }

    /// The text, its parts put together.
    pub(crate) fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                parts.iter().filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

impl WireFunction {
    /// The arguments as one JSON object; clients send them as text, and some as they are.
    pub(crate) fn arguments(&self) -> Map<String, Value> {
        match &self.arguments {
            Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            Value::Object(map) => map.clone(),
            _ => Map::new(),
        }
    }
}
