//! How tokens are counted: there is no tokenizer here, so a token is four bytes of text, which is what code and English take in common vocabularies,
//! and each message takes a few more for its frame. The counts are estimates, and they are the same for the same text everywhere.

use serde_json::Value;

use crate::protocol::{ChatRequest, WireMessage};

/// Bytes a token: GPT-4's and Qwen's vocabularies take 3.5 to 4.5 for English and code.
const BYTES: u64 = 4;
/// What a message's role and delimiters take where Qwen writes them.
const FRAME: u64 = 4;

/// The tokens of a text.
pub(crate) fn of(text: &str) -> u64 {
    (text.len() as u64).div_ceil(BYTES)
}

/// The tokens of a message, its calls included.
pub(crate) fn of_message(message: &WireMessage) -> u64 {
    let calls = message.tool_calls.iter().flatten().map(|call| {
        let arguments = match &call.function.arguments {
            Value::String(text) => of(text),
            other => of(&other.to_string()),
        };
        FRAME + of(&call.function.name) + arguments
    });
    FRAME + of(&message.text()) + message.reasoning_content.as_deref().map_or(0, of) + calls.sum::<u64>()
}

/// The tokens of the tools that are offered: they stand before the first message.
pub(crate) fn of_tools(request: &ChatRequest) -> u64 {
    request.tools.iter().flatten().map(|tool| FRAME + serde_json::to_string(tool).map_or(0, |text| of(&text))).sum()
}
