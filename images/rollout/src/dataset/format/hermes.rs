//! Hermes: tools and calls as JSON between tags, in the text. The system message is the one that the student's own template makes of the tools, so that
//! what is trained is what a server with `tools` will send.

use sera_chat::{Chat, Conversation, to_json};
use serde_json::Value;

use super::{FormatError, Formatted, as_texts, message};
use crate::dataset::shape::{Exchange, Shape};

/// A system message that no template has a piece of.
const PLACEHOLDER: &str = "[[what the system says]]";
/// Around a call.
const MARKS: [&str; 2] = ["<tool_call>", "</tool_call>"];

pub(super) fn format(shape: &Shape<'_>, chat: &Chat) -> Result<Formatted, FormatError> {
    let messages = as_texts(shape, system_message(shape.system, shape.tools, chat)?, call, &MARKS)?;
    Ok(Formatted { messages, tool_json: None })
}

/// A call, its JSON laid out as templates lay it out.
fn call(exchange: &Exchange<'_>) -> String {
    let name = to_json(&exchange.call.name);
    let arguments = to_json(&exchange.call.arguments);
    let [open, close] = MARKS;
    format!("{open}\n{{\"name\": {name}, \"arguments\": {arguments}}}\n{close}")
}

/// Whether the student's template shows tools where this format has them.
pub(super) fn check(chat: &Chat) -> Result<(), FormatError> {
    let tool = serde_json::json!({"type": "function", "function": {"name": "probe"}});
    system_message("A probe.", &[tool], chat).map(drop)
}

/// What the template makes of the system message and the tools, without what it puts around every system message.
fn system_message(system: &str, tools: &[Value], chat: &Chat) -> Result<String, FormatError> {
    let turn = |text: &str, tools: &[Value]| {
        let opening = [message("system", text.to_owned()), message("user", "-".to_owned())];
        let mut conversation = Conversation::new(&opening);
        if !tools.is_empty() {
            conversation = conversation.with_tools(tools);
        }
        let rendering = chat.turns(&conversation)?;
        Ok::<_, FormatError>(rendering.text[rendering.turns[0].whole.clone()].to_owned())
    };
    let with_tools = turn(system, tools)?;
    let frame = turn(PLACEHOLDER, &[])?;
    let inside = frame
        .split_once(PLACEHOLDER)
        .and_then(|(before, after)| with_tools.strip_prefix(before)?.strip_suffix(after))
        .filter(|inside| inside.contains(system) && inside.len() > system.len());
    inside.map(str::to_owned).ok_or(FormatError::ToolsElsewhere)
}
