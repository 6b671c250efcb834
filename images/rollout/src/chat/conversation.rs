//! A conversation as the server gets it. Each message is written once, when it is added, and never again: the bytes of a request are a prefix of the
//! next one's, and so are its tokens.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::answer::{Answer, RawCall, ReasoningField};

/// What surrounds the messages in a request.
pub(super) struct Settings<'a> {
    pub(super) model: &'a str,
    /// A plain decimal, such as `0.6`.
    pub(super) temperature: &'a str,
    pub(super) streaming: bool,
    pub(super) max_output_tokens: Option<u32>,
    pub(super) seed: Option<u64>,
}

/// The messages so far, and the tools that are offered.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    /// Each message as JSON, with a comma before it where it is not the first. Requests share them: no conversation is ever copied.
    messages: Vec<Bytes>,
    /// A JSON array.
    tools: String,
}

#[derive(Serialize)]
struct Plain<'a> {
    role: &'a str,
    content: &'a str,
}

#[derive(Serialize)]
struct Observed<'a> {
    role: &'a str,
    tool_call_id: &'a str,
    content: &'a str,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'a str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    tool_calls: [SaidCall<'a>; 1],
}

#[derive(Serialize)]
struct SaidCall<'a> {
    id: &'a str,
    r#type: &'a str,
    function: SaidFunction<'a>,
}

#[derive(Serialize)]
struct SaidFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl Conversation {
    /// An empty one, with these tools.
    pub(crate) fn new(tools: &[Value]) -> Self {
        Self { messages: Vec::new(), tools: json(&tools) }
    }

    /// Adds the rules of the game.
    pub(crate) fn push_system(&mut self, content: &str) {
        self.push(&Plain { role: "system", content });
    }

    /// Adds the task.
    pub(crate) fn push_user(&mut self, content: &str) {
        self.push(&Plain { role: "user", content });
    }

    /// Adds a turn of the teacher as it came, thinking in the field that it came in: the server has these very tokens in its cache.
    pub(crate) fn push_answer(&mut self, answer: &Answer, call: &RawCall) {
        let (content, reasoning) = answer.as_it_came();
        self.push_turn(content, reasoning, call);
    }

    /// Adds a turn of the teacher from what was kept of it.
    pub(crate) fn push_kept(&mut self, content: &str, reasoning: Option<&str>, call: &RawCall) {
        self.push_turn(content, reasoning.map(|text| (ReasoningField::ReasoningContent, text)), call);
    }

    fn push_turn(&mut self, content: &str, reasoning: Option<(ReasoningField, &str)>, call: &RawCall) {
        let of = |wanted| reasoning.filter(|(field, _)| *field == wanted).map(|(_, text)| text);
        self.push(&Said {
            role: "assistant",
            content,
            reasoning_content: of(ReasoningField::ReasoningContent),
            reasoning: of(ReasoningField::Reasoning),
            tool_calls: [SaidCall {
                id: &call.id,
                r#type: "function",
                function: SaidFunction { name: &call.name, arguments: said(&call.arguments) },
            }],
        });
    }

    /// Adds what a tool answered.
    pub(crate) fn push_observation(&mut self, tool_call_id: &str, content: &str) {
        self.push(&Observed { role: "tool", tool_call_id, content });
    }

    fn push(&mut self, message: &impl Serialize) {
        let comma = if self.messages.is_empty() { "" } else { "," };
        // Exactly as long as it is: conversations are held by the hundred.
        self.messages.push([comma, &json(message)].concat().into());
    }

    /// The body of a request, in pieces; `aside` is a last user message that is in this request alone.
    pub(super) fn request(&self, aside: Option<&str>, settings: &Settings<'_>) -> Vec<Bytes> {
        let aside = aside.map(|content| format!(",{}", json(&Plain { role: "user", content }))).unwrap_or_default();
        let streaming =
            if settings.streaming { r#","stream":true,"stream_options":{"include_usage":true}"# } else { "" };
        let limit = settings.max_output_tokens.map(|tokens| format!(",\"max_tokens\":{tokens}")).unwrap_or_default();
        let seed = settings.seed.map(|seed| format!(",\"seed\":{seed}")).unwrap_or_default();
        // Said although it is the protocol's default: llama-cpp-python offers no tools where nothing is said.
        let tools = match self.tools.as_str() {
            "[]" => String::new(),
            tools => format!(r#","tools":{tools},"tool_choice":"auto""#),
        };
        let (model, temperature) = (json(&settings.model), settings.temperature);
        let head = format!("{{\"model\":{model},\"messages\":[");
        let tail = format!("{aside}]{tools},\"temperature\":{temperature}{streaming}{limit}{seed}}}");
        std::iter::once(head.into()).chain(self.messages.iter().cloned()).chain(std::iter::once(tail.into())).collect()
    }
}

/// A call's arguments as they came. Servers that stream a call of a tool without parameters may send none at all, and refuse a history that has none.
fn said(arguments: &str) -> &str {
    if arguments.trim().is_empty() { "{}" } else { arguments }
}

/// Strings and structs of strings always have a JSON form.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SETTINGS: Settings<'_> =
        Settings { model: "m\"1", temperature: "0.6", streaming: true, max_output_tokens: Some(4096), seed: None };

    fn parsed(pieces: &[Bytes]) -> Value {
        serde_json::from_slice(&pieces.concat()).unwrap()
    }

    #[test]
    fn each_request_begins_with_the_bytes_of_the_one_before() {
        let mut conversation = Conversation::new(&[json!({"type": "function"})]);
        conversation.push_system("rules");
        conversation.push_user("task");
        let mut before = conversation.messages.concat();
        for turn in 0..3 {
            let call =
                RawCall { id: format!("c{turn}"), name: "bash".into(), arguments: r#"{"command": "ls"}"#.into() };
            conversation.push_kept("text", Some("thinking"), &call);
            conversation.push_observation(&call.id, "a\tb\n");
            assert!(conversation.messages.concat().starts_with(&before));
            before = conversation.messages.concat();
        }
    }

    #[test]
    fn a_call_without_arguments_enters_the_history_as_one_with_none() {
        for (came, said) in [("", "{}"), (" \n", "{}"), (r#"{"a": 1}"#, r#"{"a": 1}"#)] {
            let mut conversation = Conversation::new(&[]);
            conversation.push_kept(
                "",
                None,
                &RawCall { id: "c".into(), name: "submit".into(), arguments: came.into() },
            );
            let request = parsed(&conversation.request(None, &SETTINGS));
            assert_eq!(request["messages"][0]["tool_calls"][0]["function"]["arguments"], said);
        }
    }

    #[test]
    fn tools_are_offered_with_the_choice_left_to_the_teacher() {
        let request = parsed(&Conversation::new(&[json!({"type": "function"})]).request(None, &SETTINGS));
        assert_eq!((&request["tools"], &request["tool_choice"]), (&json!([{"type": "function"}]), &json!("auto")));
    }

    #[test]
    fn a_request_is_json_and_an_aside_does_not_stay() {
        let mut conversation = Conversation::new(&[]);
        conversation.push_system("rules");
        let request: Value = parsed(&conversation.request(Some("quickly"), &SETTINGS));
        assert_eq!(
            request,
            json!({
                "model": "m\"1",
                "messages": [{"role": "system", "content": "rules"}, {"role": "user", "content": "quickly"}],
                "temperature": 0.6,
                "stream": true,
                "stream_options": {"include_usage": true},
                "max_tokens": 4096,
            })
        );
        let plain = Settings { streaming: false, max_output_tokens: None, seed: Some(7), ..SETTINGS };
        let request: Value = parsed(&conversation.request(None, &plain));
        assert_eq!(request["seed"], 7);
        assert_eq!(request["messages"].as_array().unwrap().len(), 1);
        assert!(request.get("stream").is_none() && request.get("max_tokens").is_none());
    }
}
