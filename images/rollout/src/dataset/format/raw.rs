//! Raw: calls, thinking and observations in fields of their own, as the protocol has them; the student's template writes them down. Arguments and tools
//! are JSON texts, since readers of tables would mix the keys of all tools into one.

use sera_chat::to_json;
use serde_json::{Value, json};

use super::{FormatError, Formatted, message};
use crate::agent::marked;
use crate::dataset::shape::Shape;

pub(super) fn format(shape: &Shape<'_>) -> Result<Formatted, FormatError> {
    let mut messages = vec![message("system", shape.system.to_owned()), message("user", shape.task.to_owned())];
    for exchange in &shape.exchanges {
        if let Some(mark) = super::THINKING_MARKS.into_iter().find(|mark| exchange.thinking.contains(mark)) {
            return Err(FormatError::Mark { position: messages.len(), mark });
        }
        let mut turn = message("assistant", String::new());
        turn.reasoning_content = Some(exchange.thinking.to_owned());
        turn.tool_calls = Some(vec![json!({
            "id": exchange.call.id,
            "type": "function",
            "function": {"name": exchange.call.name, "arguments": to_json(&exchange.call.arguments)},
        })]);
        messages.push(turn);
        messages.extend(exchange.answer.map(|answer| {
            let mut turn = message("tool", marked(answer.content));
            turn.tool_call_id = Some(exchange.call.id.clone());
            turn
        }));
    }
    Ok(Formatted { messages, tool_json: Some(to_json(&Value::from(shape.tools))) })
}
