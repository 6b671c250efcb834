//! XML: a call as a function and its parameters between tags, each parameter's text as it is, so that code in it needs no escapes. Servers know it as
//! Qwen3-Coder's format.

use std::fmt::Write as _;

use sera_chat::to_json;
use serde_json::Value;

use super::{FormatError, Formatted, as_texts};
use crate::dataset::shape::{Exchange, Shape};

/// Around a call, and within it.
const MARKS: [&str; 2] = ["<tool_call>", "</tool_call>"];

/// What ends or begins a part within a call: a value that has it would be read in another way than it was meant.
const INNER_MARKS: [&str; 3] = ["<parameter=", "</parameter>", "</function>"];

pub(super) fn format(shape: &Shape<'_>) -> Result<Formatted, FormatError> {
    for (number, exchange) in shape.exchanges.iter().enumerate() {
        let values: Vec<String> = exchange.call.arguments.values().map(text).collect();
        if let Some(mark) = INNER_MARKS.into_iter().find(|mark| values.iter().any(|value| value.contains(mark))) {
            return Err(FormatError::Mark { position: 2 + 2 * number, mark });
        }
    }
    let messages = as_texts(shape, system(shape), call, &MARKS)?;
    Ok(Formatted { messages, tool_json: None })
}

/// The tools, and how they are to be called.
fn system(shape: &Shape<'_>) -> String {
    let tools: Vec<String> = shape.tools.iter().map(to_json).collect();
    format!(
        "{}\n\n# Tools\n\nThese functions can be called, one in each answer. Each is described by its JSON schema:\n<tools>\n{}\n</tools>\n\n\
         Write a call like this, with a parameter's value on lines of its own, exactly as it is meant, without quotes or escapes:\n\
         <tool_call>\n<function=name>\n<parameter=first>\nvalue\n</parameter>\n<parameter=second>\nvalue\n</parameter>\n</function>\n</tool_call>",
        shape.system,
        tools.join("\n"),
    )
}

fn call(exchange: &Exchange<'_>) -> String {
    let [open, close] = MARKS;
    let mut call = format!("{open}\n<function={}>\n", exchange.call.name);
    for (name, value) in &exchange.call.arguments {
        let value = text(value);
        // Writing to a string cannot fail.
        let _ = write!(call, "<parameter={name}>\n{value}\n</parameter>\n");
    }
    call + "</function>\n" + close
}

/// A value as it stands between its tags: a string as it is, anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => to_json(value),
    }
}
