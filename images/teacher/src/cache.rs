//! The prefix cache of a model server, counted and not kept: which beginnings of conversations were seen before. A beginning ends with a message; what a
//! server would have kept of a message that comes back changed is not counted.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::protocol::{ChatRequest, WireMessage};
use crate::tokens;

/// A beginning: a hash over all of its messages.
type Beginning = [u8; 32];

/// The beginnings that were seen, the oldest forgotten first.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    capacity: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When each was last used.
    used: HashMap<Beginning, u64>,
    /// Uses in their order; entries that were overtaken by a later use are skipped.
    order: VecDeque<(u64, Beginning)>,
    clock: u64,
}

/// What of a conversation was in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) prompt: u64,
    pub(crate) cached: u64,
    /// The whole conversation; with the answer's message it is the beginning of the next.
    end: Beginning,
}

impl PrefixCache {
    /// A cache of at most `capacity` beginnings.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, seen: Mutex::default() }
    }

    /// Counts what of the conversation was there, and puts all of it there.
    pub(crate) fn look_up(&self, request: &ChatRequest) -> Lookup {
        let mut at = hash(&[0; 32], &serde_json::to_string(&request.tools).unwrap_or_default(), 0);
        let mut prompt = tokens::of_tools(request);
        let mut beginnings = vec![(at, prompt)];
        for message in &request.messages {
            at = after(&at, message);
            prompt += tokens::of_message(message);
            beginnings.push((at, prompt));
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = beginnings
            .iter()
            .rev()
            .find(|(beginning, _)| seen.used.contains_key(beginning))
            .map_or(0, |(_, tokens)| *tokens);
        for (beginning, _) in &beginnings {
            seen.use_now(*beginning, self.capacity);
        }
        // A server computes at least the last token anew, to have something to go on from.
        Lookup { prompt, cached: cached.min(prompt.saturating_sub(1)), end: at }
    }

    /// Puts the conversation there together with its answer.
    pub(crate) fn answered(&self, lookup: &Lookup, answer: &WireMessage) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.use_now(after(&lookup.end, answer), self.capacity);
    }
}

impl Seen {
    fn use_now(&mut self, beginning: Beginning, capacity: usize) {
        self.clock += 1;
        self.used.insert(beginning, self.clock);
        self.order.push_back((self.clock, beginning));
        while self.used.len() > capacity || self.order.len() > capacity.saturating_mul(4) {
            let Some((when, oldest)) = self.order.pop_front() else { return };
            if self.used.get(&oldest) == Some(&when) {
                self.used.remove(&oldest);
            }
        }
    }
}

fn after(beginning: &Beginning, message: &WireMessage) -> Beginning {
    let calls = message
        .tool_calls
        .iter()
        .flatten()
        .map(|call| format!("{}{}", call.function.name, serde_json::Value::Object(call.function.arguments())));
    let text = format!(
        "{}\u{1f}{}\u{1f}{}",
        message.text(),
        message.reasoning_content.as_deref().unwrap_or_default(),
        calls.collect::<String>()
    );
    hash(beginning, &text, message.role as u8 + 1)
}

fn hash(beginning: &Beginning, text: &str, role: u8) -> Beginning {
    let mut hash = Sha256::new();
    hash.update(beginning);
    hash.update([role]);
    hash.update(text.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(messages: &serde_json::Value) -> ChatRequest {
        serde_json::from_value(json!({"model": "rehearsal", "messages": messages})).unwrap()
    }

    #[test]
    fn a_conversation_that_goes_on_is_cached_up_to_its_new_messages() {
        let cache = PrefixCache::new(100);
        let system = json!({"role": "system", "content": "be brief, be brief"});
        let first = cache.look_up(&request(&json!([system, {"role": "user", "content": "a question"}])));
        assert_eq!(first.cached, 0);
        let answer = json!({"role": "assistant", "content": "an answer"});
        cache.answered(&first, &serde_json::from_value(answer.clone()).unwrap());
        let second = cache.look_up(&request(
            &json!([system, {"role": "user", "content": "a question"}, answer, {"role": "user", "content": "more"}]),
        ));
        assert_eq!(second.prompt - second.cached, tokens::of("more") + 4);
        let other = cache.look_up(&request(&json!([system, {"role": "user", "content": "another"}])));
        assert_eq!(other.cached, tokens::of("be brief, be brief") + 4);
    }

    #[test]
    fn what_was_not_used_for_long_is_forgotten() {
        let cache = PrefixCache::new(3);
        let ask = |text: &str| cache.look_up(&request(&json!([{"role": "user", "content": text}])));
        ask("a");
        ask("b");
        ask("c");
        assert_eq!(ask("c").cached, ask("c").cached);
        assert_eq!(ask("a").cached, 0);
    }
}
