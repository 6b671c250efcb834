//! Whether an answer is a turn: exactly one call of a tool that exists, with arguments that make sense.

use sera_crds::contract::{Message, RetriedTurns, ToolCall};
use serde_json::{Map, Value};

use super::tools::Tool;
use crate::chat::{Answer, RawCall};

/// An answer that is one.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) tool: Tool,
    pub(super) call: RawCall,
    pub(super) answer: Answer,
}

/// Why an answer is none. The texts are for the teacher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// Nothing at all.
    #[error("it was empty")]
    Empty,
    /// Words alone.
    #[error("it had no tool call")]
    NoCall,
    /// More calls than one.
    #[error("it had {0} tool calls")]
    ManyCalls(usize),
    /// No such tool.
    #[error("there is no tool named '{0}'")]
    UnknownTool(String),
    /// Arguments that cannot be used.
    #[error("the arguments of its tool call cannot be used ({0})")]
    Malformed(String),
}

impl Unusable {
    /// What metrics call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NoCall => "noCall",
            Self::ManyCalls(_) => "manyCalls",
            Self::UnknownTool(_) => "unknownTool",
            Self::Malformed(_) => "malformed",
        }
    }

    /// Counts it.
    pub(super) fn count(&self, retried: &mut RetriedTurns) {
        *match self {
            Self::Empty => &mut retried.empty,
            Self::NoCall => &mut retried.no_call,
            Self::ManyCalls(_) => &mut retried.many_calls,
            Self::UnknownTool(_) => &mut retried.unknown_tool,
            Self::Malformed(_) => &mut retried.malformed,
        } += 1;
    }
}

impl Turn {
    /// Reads an answer; `position` makes an id for a call that came without one.
    pub(super) fn read(mut answer: Answer, position: usize) -> Result<Self, Unusable> {
        let mut calls = std::mem::take(&mut answer.calls);
        let call = match (calls.len(), calls.pop()) {
            (1, Some(call)) => call,
            (0, _) if answer.content.is_empty() && answer.reasoning.is_none() => return Err(Unusable::Empty),
            (0, _) => return Err(Unusable::NoCall),
            (count, _) => return Err(Unusable::ManyCalls(count)),
        };
        let tool = Tool::read(&call.name, &arguments(&call.arguments)?)?;
        let id = if call.id.is_empty() { format!("call-{position}") } else { call.id };
        Ok(Self { tool, call: RawCall { id, ..call }, answer })
    }
}

/// The arguments of a call; a tool that takes none may be called with nothing at all.
fn arguments(text: &str) -> Result<Map<String, Value>, Unusable> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(text).map_err(|error| Unusable::Malformed(error.to_string()))
}

/// A turn as the trajectory keeps it.
pub(super) fn message(answer: &Answer, call: &RawCall) -> Message {
    let arguments = arguments(&call.arguments).unwrap_or_default();
    Message::Assistant {
        content: answer.content.clone(),
        reasoning: answer.reasoning.clone(),
        tool_call: ToolCall { id: call.id.clone(), name: call.name.clone(), arguments },
        usage: Some(answer.usage),
    }
}
