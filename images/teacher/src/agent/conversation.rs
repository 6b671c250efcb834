//! A conversation in the shape that matters here: what was asked at first, what the teacher did and what it saw of it, and what was said in between.

use crate::protocol::{ChatRequest, Role, WireMessage};

/// A conversation, read once.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// The system's messages.
    pub(crate) rules: String,
    /// The first thing that the user said.
    pub(crate) prompt: String,
    /// What the teacher did, with what it saw of it.
    pub(crate) exchanges: Vec<Exchange>,
    /// The last message, if it is the user's, and neither the prompt nor what came of a command.
    pub(crate) question: Option<String>,
    /// What the answer is to be drawn from, where the client says so.
    pub(crate) seed: Option<i64>,
}

/// A turn of the teacher that was carried out.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) text: String,
    /// The arguments of its call, written out; empty where commands are written as text.
    pub(crate) arguments: Vec<serde_json::Map<String, serde_json::Value>>,
    pub(crate) observation: String,
}

impl Conversation {
    pub(crate) fn new(request: &ChatRequest) -> Self {
        let mut rules = Vec::new();
        let mut prompt = None;
        let mut exchanges: Vec<Exchange> = Vec::new();
        let mut pending: Option<Exchange> = None;
        let mut question = None;
        for message in &request.messages {
            question = None;
            match message.role {
                Role::System | Role::Developer => rules.push(message.text()),
                Role::Assistant => pending = Some(turn(message)),
                Role::Tool => {
                    exchanges.extend(pending.take().map(|turn| Exchange { observation: message.text(), ..turn }));
                }
                Role::User if prompt.is_none() => prompt = Some(message.text()),
                // Where commands are written as text, the user says what came of them. Whatever else a user says is a remark.
                Role::User => {
                    match pending.take().filter(|turn| turn.arguments.is_empty() && turn.text.contains("```")) {
                        Some(turn) => exchanges.push(Exchange { observation: message.text(), ..turn }),
                        None => question = Some(message.text()),
                    }
                }
            }
        }
        Self { rules: rules.join("\n"), prompt: prompt.unwrap_or_default(), exchanges, question, seed: request.seed }
    }

    /// Everything that the conversation says, for those who look for something that may be anywhere.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let said = self.exchanges.iter().flat_map(|exchange| [exchange.text.as_str(), exchange.observation.as_str()]);
        [self.prompt.as_str()].into_iter().chain(said).chain(self.question.as_deref())
    }
}

fn turn(message: &WireMessage) -> Exchange {
    let arguments = message.tool_calls.iter().flatten().map(|call| call.function.arguments()).collect();
    Exchange { text: message.text(), arguments, observation: String::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(messages: &serde_json::Value) -> Conversation {
        Conversation::new(&serde_json::from_value(json!({"model": "rehearsal", "messages": messages})).unwrap())
    }

    #[test]
    fn calls_are_paired_with_what_came_of_them_and_remarks_are_passed_over() {
        let call = |command: &str| json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "bash", "arguments": json!({"command": command}).to_string()}}]});
        let conversation = read(&json!([
            {"role": "system", "content": "rules"},
            {"role": "user", "content": [{"type": "text", "text": "prompt"}]},
            call("a"),
            {"role": "tool", "tool_call_id": "1", "content": "saw a"},
            {"role": "user", "content": "that was no call"},
            {"role": "assistant", "content": "thinking aloud"},
            {"role": "user", "content": "please call"},
            call("b"),
            {"role": "tool", "tool_call_id": "1", "content": "saw b"},
        ]));
        assert_eq!((conversation.rules.as_str(), conversation.prompt.as_str()), ("rules", "prompt"));
        let seen: Vec<&str> = conversation.exchanges.iter().map(|exchange| exchange.observation.as_str()).collect();
        assert_eq!(seen, ["saw a", "saw b"]);
        assert_eq!(conversation.question, None);
        let asked = read(
            &json!([{"role": "user", "content": "prompt"}, call("a"), {"role": "tool", "content": "saw"}, {"role": "user", "content": "yes or no?"}]),
        );
        assert_eq!(asked.question.as_deref(), Some("yes or no?"));
    }

    #[test]
    fn commands_as_text_are_answered_by_the_user() {
        let conversation = read(&json!([
            {"role": "user", "content": "prompt"},
            {"role": "assistant", "content": "THOUGHT\n```bash\nls\n```"},
            {"role": "user", "content": "files"},
        ]));
        assert_eq!(conversation.exchanges[0].observation, "files");
        assert_eq!(conversation.question, None);
    }
}
