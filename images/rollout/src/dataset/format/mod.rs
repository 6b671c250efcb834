//! How a trajectory is written down as the messages of a line: one module a format. Each writes what the student will be given when it is served, and
//! what it has to answer in a form that its server understands.

mod hermes;
mod raw;
mod xml;

use sera_chat::Chat;
use sera_crds::contract::DatasetMessage;
use sera_crds::values::ToolCallFormat;

use super::shape::{Exchange, Shape};
use crate::agent::marked;

/// A trajectory as a line has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Formatted {
    pub(super) messages: Vec<DatasetMessage>,
    /// The tools, as one JSON text; none where the system message has them.
    pub(super) tool_json: Option<String>,
}

/// Why a trajectory cannot be written down in a format.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    /// The student's template does not show tools in the system message.
    #[error(
        "the student's chat template does not put tools into the system message: use dataset.toolCallFormat Raw, which leaves them to the template"
    )]
    ToolsElsewhere,
    /// The student's template.
    #[error(transparent)]
    Chat(#[from] sera_chat::ChatError),
    /// The turn says what the format uses to tell its parts apart.
    #[error("message {position} has {mark} in it, which is how the format marks its parts")]
    Mark {
        /// The message.
        position: usize,
        /// What it says.
        mark: &'static str,
    },
}

/// Writes a trajectory down.
pub(super) fn format(shape: &Shape<'_>, format: ToolCallFormat, chat: &Chat) -> Result<Formatted, FormatError> {
    match format {
        ToolCallFormat::Hermes => hermes::format(shape, chat),
        ToolCallFormat::Xml => xml::format(shape),
        ToolCallFormat::Raw => raw::format(shape),
    }
}

/// Whether trajectories can be written down in a format for a student at all.
pub(super) fn check(format: ToolCallFormat, chat: &Chat) -> Result<(), FormatError> {
    match format {
        ToolCallFormat::Hermes => hermes::check(chat),
        ToolCallFormat::Xml | ToolCallFormat::Raw => Ok(()),
    }
}

/// An observation as the message of a user, for formats that have no message of a tool. Exactly so: Qwen3's template takes other texts for a new task,
/// and drops the thinking before it.
pub(super) fn tool_response(content: &str) -> String {
    format!("<tool_response>\n{}\n</tool_response>", marked(content))
}

fn message(role: &str, content: String) -> DatasetMessage {
    DatasetMessage { role: role.to_owned(), content, train: role == "assistant", ..DatasetMessage::default() }
}

/// A line whose answers and observations are texts: what Hermes and XML share. `call` writes a tool call.
fn as_texts(
    shape: &Shape<'_>,
    system: String,
    call: impl Fn(&Exchange<'_>) -> String,
    marks: &[&'static str],
) -> Result<Vec<DatasetMessage>, FormatError> {
    let mut messages = vec![message("system", system), message("user", shape.task.to_owned())];
    for exchange in &shape.exchanges {
        let call = call(exchange);
        for mark in marks.iter().copied().chain(THINKING_MARKS) {
            // The format's own marks stand at both ends of a call; in between, and in the thinking, they would end a part too early.
            let inner = call.trim_start_matches(marks[0]).trim_end_matches(marks[1]);
            if exchange.thinking.contains(mark) || inner.contains(mark) {
                return Err(FormatError::Mark { position: messages.len(), mark });
            }
        }
        messages.push(message("assistant", format!("<think>\n{}\n</think>\n\n{call}", exchange.thinking)));
        messages.extend(exchange.answer.map(|answer| message("user", tool_response(answer.content))));
    }
    Ok(messages)
}

/// How thinking is marked.
const THINKING_MARKS: [&str; 2] = ["<think>", "</think>"];

#[cfg(test)]
mod tests;
