//! Answers on the wire, whole and in pieces.

use serde_json::{Value, json};

use super::speech::Piece;
use crate::protocol::{Finish, TokenCounts};

/// What all parts of an answer say.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Also what its calls' names begin with.
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) model: String,
}

impl Frame {
    fn json(&self, object: &str) -> Value {
        json!({"id": format!("chatcmpl-{}", self.id), "object": object, "created": self.created, "model": self.model})
    }

    /// A call that was made, the `index`th of the answer.
    fn call(&self, index: usize, name: &str, arguments: &str) -> Value {
        json!({"id": format!("call_{}_{index}", self.id), "type": "function", "function": {"name": name, "arguments": arguments}})
    }
}

/// A whole answer.
#[derive(Debug, Default)]
pub(super) struct Whole {
    thinking: String,
    text: String,
    calls: Vec<(String, String)>,
}

impl Whole {
    pub(super) fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Thinking(text) => self.thinking.push_str(&text),
            Piece::Text(text) => self.text.push_str(&text),
            Piece::Call { name, arguments } => self.calls.push((name, arguments)),
        }
    }

    pub(super) fn body(&self, frame: &Frame, finish: Finish, counts: TokenCounts) -> Value {
        let content = (!self.text.is_empty() || self.calls.is_empty()).then_some(&self.text);
        let mut message = json!({"role": "assistant", "content": content});
        if !self.thinking.is_empty() {
            message["reasoning_content"] = json!(self.thinking);
        }
        if !self.calls.is_empty() {
            let calls = self.calls.iter().enumerate();
            message["tool_calls"] = calls.map(|(at, (name, arguments))| frame.call(at, name, arguments)).collect();
        }
        let mut body = frame.json("chat.completion");
        body["choices"] = json!([{"index": 0, "message": message, "finish_reason": finish, "logprobs": null}]);
        body["usage"] = counts.json();
        body
    }
}

/// The pieces of a stream, each the data of an event.
#[derive(Debug)]
pub(super) struct Pieces {
    frame: Frame,
    calls: usize,
}

impl Pieces {
    pub(super) fn new(frame: Frame) -> Self {
        Self { frame, calls: 0 }
    }

    /// The first one, which says who speaks.
    pub(super) fn first(&self) -> Value {
        self.delta(&json!({"role": "assistant", "content": ""}), None)
    }

    pub(super) fn piece(&mut self, piece: &Piece) -> Value {
        let delta = match piece {
            Piece::Thinking(text) => json!({"reasoning_content": text}),
            Piece::Text(text) => json!({"content": text}),
            Piece::Call { name, arguments } => {
                let mut call = self.frame.call(self.calls, name, arguments);
                call["index"] = self.calls.into();
                self.calls += 1;
                json!({"tool_calls": [call]})
            }
        };
        self.delta(&delta, None)
    }

    /// That the answer is being written, and nothing of it can be said yet.
    pub(super) fn nothing_yet(&self) -> Value {
        self.delta(&json!({}), None)
    }

    pub(super) fn end(&self, finish: Finish) -> Value {
        self.delta(&json!({}), Some(finish))
    }

    /// The last one, where it was asked for.
    pub(super) fn usage(&self, counts: TokenCounts) -> Value {
        let mut body = self.frame.json("chat.completion.chunk");
        body["choices"] = json!([]);
        body["usage"] = counts.json();
        body
    }

    fn delta(&self, delta: &Value, finish: Option<Finish>) -> Value {
        let mut body = self.frame.json("chat.completion.chunk");
        body["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": null}]);
        body
    }
}
