//! A chat completion as it is answered, whole or in pieces. Every body says `x-sera-rehearsal`, so that none can be taken for a model's.

use serde::Serialize;
use serde_json::{Value, json};

use crate::agent::{Answer, Said};

/// What the protocol calls the teacher; it is no model's name.
pub(crate) const MODEL: &str = "rehearsal";
/// The field, and the header, that says what answers are.
pub(crate) const MARK: &str = "x-sera-rehearsal";

/// How many characters a piece of a stream has: about what a token or two of a model's have.
const PIECE: usize = 24;

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Finish {
    Stop,
    ToolCalls,
    Length,
}

/// What an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TokenCounts {
    pub(crate) prompt: u64,
    /// Those of the prompt that the prefix cache held.
    pub(crate) cached: u64,
    pub(crate) completion: u64,
}

impl Finish {
    /// Its name in the protocol.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
            Self::Length => "length",
        }
    }
}

impl TokenCounts {
    pub(crate) fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        })
    }
}

/// An answer on its way out.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) answer: Answer,
    pub(crate) finish: Finish,
    pub(crate) counts: TokenCounts,
}

impl Completion {
    /// The whole answer.
    pub(crate) fn body(&self) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": MODEL,
            "choices": [{"index": 0, "message": self.message(), "finish_reason": self.finish, "logprobs": null}],
            "usage": self.counts.json(),
            MARK: true,
        })
    }

    fn message(&self) -> Value {
        let Answer { thinking, text, calls } = &self.answer;
        let mut message = json!({"role": "assistant", "content": (!text.is_empty()).then_some(text)});
        if !thinking.is_empty() {
            message["reasoning_content"] = json!(thinking);
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.iter().map(Said::json).collect();
        }
        message
    }

    /// The answer in pieces, each the data of an event.
    pub(crate) fn pieces(&self, with_usage: bool) -> Vec<String> {
        let mut pieces = vec![self.piece(&json!({"role": "assistant", "content": ""}), None)];
        let deltas = [("reasoning_content", &self.answer.thinking), ("content", &self.answer.text)]
            .into_iter()
            .flat_map(|(field, text)| chunks(text).map(move |chunk| json!({field: chunk})));
        pieces.extend(deltas.map(|delta| self.piece(&delta, None)));
        for (index, call) in self.answer.calls.iter().enumerate() {
            let head = json!({"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}});
            pieces.push(self.piece(&json!({"tool_calls": [head]}), None));
            let rest = chunks(&call.arguments)
                .map(|chunk| json!({"tool_calls": [{"index": index, "function": {"arguments": chunk}}]}));
            pieces.extend(rest.map(|delta| self.piece(&delta, None)));
        }
        pieces.push(self.piece(&json!({}), Some(self.finish)));
        if with_usage {
            let mut last = self.frame();
            last["choices"] = json!([]);
            last["usage"] = self.counts.json();
            pieces.push(last.to_string());
        }
        pieces
    }

    fn piece(&self, delta: &Value, finish: Option<Finish>) -> String {
        let mut frame = self.frame();
        frame["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        frame.to_string()
    }

    fn frame(&self) -> Value {
        json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": MODEL, MARK: true})
    }
}

fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(PIECE).map_or(rest.len(), |(at, _)| at);
        let (chunk, after) = rest.split_at(end);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// `GET /v1/models`.
pub(crate) struct Models;

impl Models {
    pub(crate) fn json(context_length: u64) -> Value {
        let entry = json!({
            "id": MODEL, "object": "model", "created": 0, "owned_by": "sera-operator", "max_model_len": context_length, MARK: true
        });
        json!({"object": "list", "data": [entry], MARK: true})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_stream_add_up_to_the_whole_answer() {
        let text = "ein längerer Text, der in mehrere Stücke zerfällt";
        assert_eq!(chunks(text).collect::<String>(), text);
        assert!(chunks(text).count() > 1);
        assert_eq!(chunks("").count(), 0);
    }
}
