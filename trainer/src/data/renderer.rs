//! One line of a dataset to tokens and their loss mask, through the student's own template and tokenizer.

use std::path::Path;

use sera_chat::{Chat, ChatError, Conversation};
use sera_crds::contract::DatasetLine;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::engine::Line;

/// The small files of a model that decide what a conversation's text is, beside the template and the tokenizer themselves.
const BESIDE: [&str; 3] =
    ["tokenizer_config.json", "special_tokens_map.json", "additional_chat_templates/tool_use.jinja"];

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum LineProblem {
    /// It is not JSON, or not a line.
    #[error("it is no line of a dataset: {0}")]
    Malformed(#[source] serde_json::Error),
    /// It has no messages.
    #[error("it has no messages")]
    Empty,
    /// Its tools are not what they should be.
    #[error("its `tool_json` is no JSON list: {0}")]
    Tools(#[source] serde_json::Error),
    /// A message is to be trained that no assistant wrote.
    #[error("message {position} is to be trained, and is of the role `{role}`; only an assistant's words carry loss")]
    NotAnAssistants {
        /// The message's position, from 0.
        position: usize,
        /// Its role.
        role: String,
    },
    /// None of its tokens carries loss.
    #[error("none of its tokens carries loss: set `train` on an assistant's message, or leave the line out")]
    Untrained,
    /// The template or the tokenizer does not take it.
    #[error(transparent)]
    Chat(#[from] ChatError),
}

/// A student's template and tokenizer.
#[derive(Debug)]
pub struct Renderer {
    chat: Chat,
    digest: String,
}

impl Renderer {
    /// Reads a model's directory; weights are not looked at.
    pub fn load(student: &Path) -> Result<Self, ChatError> {
        let chat = Chat::load(student)?;
        let mut digest = Sha256::new();
        for part in [chat.tokenizer_sha256(), chat.template_sha256()] {
            digest.update(part);
        }
        for name in BESIDE {
            let content = std::fs::read(student.join(name)).unwrap_or_default();
            digest.update(Sha256::digest(content));
        }
        Ok(Self { chat, digest: hex::encode(digest.finalize()) })
    }

    /// What decides which tokens a line has, by its sha256.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The special token with which the student's template ends an assistant's turn.
    pub fn turn_end(&self) -> Option<u32> {
        self.chat.turn_end()
    }

    /// The text of some tokens, special ones included.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ChatError> {
        self.chat.decode(ids)
    }

    /// A line as it stands in the file, without its end.
    pub fn line(&self, json: &[u8]) -> Result<Line, LineProblem> {
        let line: DatasetLine = serde_json::from_slice(json).map_err(LineProblem::Malformed)?;
        if line.messages.is_empty() {
            return Err(LineProblem::Empty);
        }
        let foreign = line.messages.iter().position(|message| message.train && message.role != "assistant");
        if let Some(position) = foreign {
            return Err(LineProblem::NotAnAssistants { position, role: line.messages[position].role.clone() });
        }
        let mut conversation = Conversation::new(&line.messages);
        if let Some(tools) = &line.tool_json {
            let tools: Vec<Value> = serde_json::from_str(tools).map_err(LineProblem::Tools)?;
            conversation = conversation.with_tools(&tools);
        }
        let rendering = self.chat.turns(&conversation)?;
        let trained = |position: usize| line.messages.get(position).is_some_and(|message| message.train);
        let tokens = self.chat.tokens(&rendering, trained)?;
        // The first token has none before it that it could be predicted from.
        if !tokens.loss.iter().skip(1).any(|loss| *loss) {
            return Err(LineProblem::Untrained);
        }
        Ok(Line { id: line.instance_id, ids: tokens.ids, loss: tokens.loss })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn renderer() -> Renderer {
        Renderer::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/chat/tests/tiny"))).unwrap()
    }

    fn problem(line: &Value) -> String {
        renderer().line(line.to_string().as_bytes()).unwrap_err().to_string()
    }

    fn message(role: &str, content: &str, train: bool) -> Value {
        json!({"role": role, "content": content, "train": train})
    }

    #[test]
    fn what_the_assistant_wrote_where_it_is_to_be_trained_carries_loss_and_nothing_else() {
        let messages = [
            message("user", "a?", false),
            message("assistant", "<think>\n1\n</think>\n\nb", false),
            message("user", "<tool_response>\nc\n</tool_response>", false),
            message("assistant", "<think>\n2\n</think>\n\nd", true),
        ];
        let line =
            renderer().line(json!({"instance_id": "x-1-t2", "messages": messages}).to_string().as_bytes()).unwrap();
        let learnt: Vec<u32> = line.ids.iter().zip(&line.loss).filter(|(_, loss)| **loss).map(|(id, _)| *id).collect();
        assert_eq!((line.id.as_str(), line.ids.len()), ("x-1-t2", line.loss.len()));
        let learnt = renderer().decode(&learnt).unwrap();
        assert_eq!(learnt, "<think>\n2\n</think>\n\nd<|im_end|>");
    }

    #[test]
    fn tools_and_calls_in_fields_of_their_own_are_rendered_by_the_template() {
        let call =
            json!({"id": "1", "type": "function", "function": {"name": "bash", "arguments": "{\"command\": \"ls\"}"}});
        let answer = json!({"role": "assistant", "content": "", "train": true, "reasoning_content": "Look.", "tool_calls": [call]});
        let tools = "[{\"type\": \"function\", \"function\": {\"name\": \"bash\"}}]";
        let line =
            json!({"instance_id": "x", "tool_json": tools, "messages": [message("user", "Fix it.", false), answer]});
        let line = renderer().line(line.to_string().as_bytes()).unwrap();
        let text = renderer().decode(&line.ids).unwrap();
        assert!(
            text.contains("# Tools") && text.contains("{\"name\": \"bash\", \"arguments\": {\"command\": \"ls\"}}"),
            "{text}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let line = |messages: Value| json!({"instance_id": "x", "messages": messages});
        assert!(problem(&json!({"instance_id": "x"})).contains("`messages`"));
        assert!(problem(&line(json!([]))).contains("no messages"));
        assert!(problem(&line(json!([message("user", "a", true)]))).contains("message 0 is to be trained"));
        let untrained = json!([message("user", "a", false), message("assistant", "b", false)]);
        assert!(problem(&line(untrained)).contains("carries loss"));
        let mut tools = line(json!([message("user", "a", false), message("assistant", "b", true)]));
        tools["tool_json"] = json!("{");
        assert!(problem(&tools).contains("`tool_json`"));
    }
}
