//! Hermes: tools and calls as JSON between tags, in the text. The system message is the one that the student's own template makes of the tools, so that
//! what is trained is what a server with `tools` will send.

use sera_chat::{Chat, Conversation, to_json};

use super::{FormatError, Formatted, as_texts, message};
use crate::dataset::shape::{Exchange, Shape};

/// Around a call.
const MARKS: [&str; 2] = ["<tool_call>", "</tool_call>"];

pub(super) fn format(shape: &Shape<'_>, chat: &Chat) -> Result<Formatted, FormatError> {
    let messages = as_texts(shape, system(shape, chat)?, call, &MARKS)?;
    Ok(Formatted { messages, tool_json: None })
}

/// A call, its JSON laid out as templates lay it out.
fn call(exchange: &Exchange<'_>) -> String {
    let name = to_json(&exchange.call.name);
    let arguments = to_json(&exchange.call.arguments);
    let [open, close] = MARKS;
    format!("{open}\n{{\"name\": {name}, \"arguments\": {arguments}}}\n{close}")
}

/// What the template makes of the system message and the tools, without what it puts around every system message.
fn system(shape: &Shape<'_>, chat: &Chat) -> Result<String, FormatError> {
    let opening = [message("system", shape.system.to_owned()), message("user", "-".to_owned())];
    let plain = Conversation::new(&opening);
    let with_tools = chat.turns(&plain.clone().with_tools(shape.tools))?;
    let plain = chat.turns(&plain)?;
    let texts = [&with_tools, &plain].map(|rendering| &rendering.text[rendering.turns[0].whole.clone()]);
    between(texts[0], texts[1], shape.system).map(str::to_owned).ok_or(FormatError::ToolsElsewhere)
}

/// What stands in `turn` where `content` stands in `frame`.
fn between<'a>(turn: &'a str, frame: &str, content: &str) -> Option<&'a str> {
    let (before, after) = frame.split_once(content)?;
    turn.strip_prefix(before)?
        .strip_suffix(after)
        .filter(|inside| inside.starts_with(content) && inside.len() > content.len())
}
