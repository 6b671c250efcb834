//! What a teacher answered, put together from a whole answer or from the pieces of a stream, and brought into one form whichever field the server
//! puts the thinking in.

use sera_crds::contract::Usage;

use super::error::Fault;
use super::wire::{CallPiece, Choice, Completion, Counts};

/// The longest answer that is taken, in bytes of text: a whole context of 131,072 tokens of 32 bytes.
pub(super) const MAX_TEXT: usize = 4 << 20;
/// Tool calls that one answer may have before it is no answer.
const MAX_CALLS: usize = 64;
/// What surrounds thinking in a content that carries it.
const THINK: &str = "<think>";
const THINK_END: &str = "</think>";

/// The field in which a server hands out the thinking, apart from the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReasoningField {
    /// vLLM's (older), SGLang's, llama.cpp's and DeepSeek's.
    ReasoningContent,
    /// vLLM's (newer) and OpenRouter's.
    Reasoning,
}

/// A tool call as it came; the arguments may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RawCall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// An answer of the teacher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The text outside of thinking and calls.
    pub(crate) content: String,
    /// The thinking, without its tags.
    pub(crate) reasoning: Option<String>,
    pub(crate) calls: Vec<RawCall>,
    /// Whether it ended because nothing more could be written (`finish_reason: length`).
    pub(crate) cut_off: bool,
    pub(crate) usage: Usage,
    /// Whether the server says of itself that it is a rehearsal.
    pub(super) rehearsal: bool,
    raw_content: String,
    raw_reasoning: Option<(ReasoningField, String)>,
}

impl Answer {
    /// The content and the thinking, in the fields and with the bytes that they came in.
    pub(super) fn as_it_came(&self) -> (&str, Option<(ReasoningField, &str)>) {
        (&self.raw_content, self.raw_reasoning.as_ref().map(|(field, text)| (*field, text.as_str())))
    }
}

/// An answer in the making.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    content: String,
    reasoning: String,
    field: Option<ReasoningField>,
    calls: Vec<RawCall>,
    finish: Option<String>,
    counts: Option<Counts>,
    text: usize,
}

impl Gathered {
    /// Takes a whole answer, or the next piece of one; says whether it shows that the answer is being written. A piece may be empty: some servers say
    /// nothing of a call before it is whole, but that they are at it.
    pub(super) fn take(&mut self, completion: Completion) -> Result<bool, Fault> {
        if completion.usage.is_some() {
            self.counts = completion.usage;
        }
        let Some(choice) = completion.choices.into_iter().next() else { return Ok(false) };
        self.take_choice(choice)?;
        Ok(true)
    }

    fn take_choice(&mut self, choice: Choice) -> Result<(), Fault> {
        let piece = choice.message;
        self.text += piece.content.len() + piece.reasoning_content.len() + piece.reasoning.len();
        self.content.push_str(&piece.content);
        // Some servers repeat the thinking in both fields: one of them is enough.
        for (field, text) in
            [(ReasoningField::ReasoningContent, piece.reasoning_content), (ReasoningField::Reasoning, piece.reasoning)]
        {
            if !text.is_empty() && *self.field.get_or_insert(field) == field {
                self.reasoning.push_str(&text);
            }
        }
        for call in piece.tool_calls {
            self.take_call(call)?;
        }
        if choice.finish_reason.is_some() {
            self.finish = choice.finish_reason;
        }
        if self.text > MAX_TEXT { Err(Fault::TooLong { limit: MAX_TEXT }) } else { Ok(()) }
    }

    /// Calls are told apart by their index; a server that gives none begins each call with an id.
    fn take_call(&mut self, piece: CallPiece) -> Result<(), Fault> {
        self.text += piece.function.name.len() + piece.function.arguments.len();
        let last = self.calls.len().saturating_sub(1);
        let begins = self.calls.last().is_none_or(|call| !piece.id.is_empty() && piece.id != call.id);
        let index = piece.index.unwrap_or(if begins { self.calls.len() } else { last });
        if index >= MAX_CALLS {
            return Err(Fault::Garbled { problem: format!("it has tool call number {index}") });
        }
        if self.calls.len() <= index {
            self.calls.resize_with(index + 1, RawCall::default);
        }
        let call = &mut self.calls[index];
        if call.id.is_empty() {
            call.id = piece.id;
        }
        call.name.push_str(&piece.function.name);
        call.arguments.push_str(&piece.function.arguments);
        Ok(())
    }

    /// Whether its tokens were counted.
    pub(super) fn is_counted(&self) -> bool {
        self.counts.is_some()
    }

    /// Whether the server has said why it stopped.
    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether anything of an answer has come.
    pub(super) fn has_begun(&self) -> bool {
        self.text > 0
    }

    /// The answer.
    pub(super) fn finish(self) -> Answer {
        let (content, reasoning) = if self.field.is_some() {
            (self.content.trim(), Some(self.reasoning.trim()))
        } else {
            split_thinking(&self.content)
        };
        Answer {
            content: content.to_owned(),
            reasoning: reasoning.filter(|text| !text.is_empty()).map(str::to_owned),
            calls: self.calls,
            cut_off: self.finish.as_deref() == Some("length"),
            usage: self.counts.map_or(Usage { calls: 1, ..Usage::default() }, Usage::from),
            rehearsal: false,
            raw_reasoning: self.field.map(|field| (field, self.reasoning)),
            raw_content: self.content,
        }
    }
}

/// The content and the thinking of a text that has both. The opening tag may be missing, where the chat template ends a prompt with it; the closing
/// one is, where the answer was cut off.
fn split_thinking(text: &str) -> (&str, Option<&str>) {
    let text = text.trim();
    let opened = text.strip_prefix(THINK);
    let body = opened.unwrap_or(text);
    match (body.split_once(THINK_END), opened) {
        (Some((thinking, content)), _) => (content.trim(), Some(thinking.trim())),
        (None, Some(thinking)) => ("", Some(thinking.trim())),
        (None, None) => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gathered(pieces: &[serde_json::Value]) -> Answer {
        let mut gathered = Gathered::default();
        for piece in pieces {
            gathered.take(serde_json::from_value(piece.clone()).unwrap()).unwrap();
        }
        gathered.finish()
    }

    #[test]
    fn thinking_is_the_same_whichever_field_it_came_in() {
        let whole = |message: serde_json::Value| gathered(&[json!({"choices": [{"message": message}]})]);
        for message in [
            json!({"content": "<think>\nhm\n</think>\n\nso"}),
            json!({"content": "hm\n</think>\n\nso"}),
            json!({"content": "\n\nso", "reasoning_content": "\nhm\n"}),
            json!({"content": "so", "reasoning": "hm"}),
            json!({"content": "so", "reasoning": "hm", "reasoning_content": "hm"}),
        ] {
            let answer = whole(message.clone());
            assert_eq!((answer.content.as_str(), answer.reasoning.as_deref()), ("so", Some("hm")), "{message}");
        }
        let answer = whole(json!({"content": "<think>cut"}));
        assert_eq!((answer.content.as_str(), answer.reasoning.as_deref()), ("", Some("cut")));
        let answer = whole(json!({"content": null, "tool_calls": null}));
        assert_eq!((answer.content.as_str(), answer.reasoning, answer.calls.len()), ("", None, 0));
    }

    #[test]
    fn pieces_of_calls_are_put_together_with_and_without_an_index() {
        let delta = |call: serde_json::Value| json!({"choices": [{"delta": {"tool_calls": [call]}}]});
        let indexed = gathered(&[
            delta(json!({"index": 0, "id": "a", "function": {"name": "bash", "arguments": ""}})),
            delta(json!({"index": 0, "function": {"arguments": "{\"command\":"}})),
            delta(json!({"index": 0, "id": null, "function": {"name": null, "arguments": "\"ls\"}"}})),
        ]);
        let bare = gathered(&[
            delta(json!({"id": "a", "function": {"name": "bash", "arguments": "{\"command\":"}})),
            delta(json!({"id": "a", "function": {"arguments": "\"ls\"}"}})),
        ]);
        let whole =
            gathered(&[delta(json!({"id": "a", "function": {"name": "bash", "arguments": {"command": "ls"}}}))]);
        for answer in [indexed, bare, whole] {
            assert_eq!(
                answer.calls,
                [RawCall { id: "a".into(), name: "bash".into(), arguments: r#"{"command":"ls"}"#.into() }]
            );
        }
    }

    #[test]
    fn cached_tokens_are_none_where_a_server_does_not_count_them() {
        let usage = |counts: serde_json::Value| gathered(&[json!({"choices": [], "usage": counts})]).usage;
        let details =
            json!({"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 96}});
        assert_eq!(usage(details), Usage { calls: 1, prompt_tokens: 100, cached_tokens: 96, completion_tokens: 7 });
        let absent = json!({"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": null});
        assert_eq!(usage(absent), Usage { calls: 1, prompt_tokens: 100, cached_tokens: 0, completion_tokens: 7 });
    }

    #[test]
    fn an_answer_without_an_end_is_not_held_in_memory() {
        let mut gathered = Gathered::default();
        let piece = json!({"choices": [{"delta": {"content": "x".repeat(MAX_TEXT / 2)}}]});
        gathered.take(serde_json::from_value(piece.clone()).unwrap()).unwrap();
        gathered.take(serde_json::from_value(piece.clone()).unwrap()).unwrap();
        assert!(matches!(gathered.take(serde_json::from_value(piece).unwrap()), Err(Fault::TooLong { .. })));
    }
}
