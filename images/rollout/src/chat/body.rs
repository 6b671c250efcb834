//! The bodies of a teacher's answers, whole ones and streams of pieces, as bytes. They are somebody else's: whatever they are, reading them ends in an
//! answer or in a reason, within bounds.

use super::answer::{Answer, Gathered};
use super::error::Fault;
use super::events::Events;
use super::wire::Completion;

/// What is shown of what a server says, in bytes.
const MAX_SAID: usize = 300;
/// What ends a stream.
const DONE: &[u8] = b"[DONE]";

/// Why reading an answer stopped.
pub(super) enum Stop {
    Fault(Fault),
    /// In its place came an error.
    Said(String),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The answer that came in one piece.
pub(super) fn whole(body: &[u8]) -> Result<Answer, Stop> {
    let completion = parse(body)?;
    if completion.choices.is_empty() {
        return Err(Fault::Garbled { problem: "it has no choices".to_owned() }.into());
    }
    let mut gathered = Gathered::default();
    gathered.take(completion)?;
    Ok(gathered.finish())
}

/// An answer that comes as a stream.
#[derive(Default)]
pub(super) struct Pieces {
    events: Events,
    gathered: Gathered,
    done: bool,
    error: Option<String>,
}

impl Pieces {
    /// Takes what has come; says whether it brought a token.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        let Self { events, gathered, done, error } = self;
        let mut brought = false;
        events.take(bytes, |data| {
            if data == DONE {
                *done = true;
            } else if !*done {
                match parse(data) {
                    Ok(completion) => brought |= gathered.take(completion)?,
                    Err(Stop::Fault(fault)) => return Err(fault),
                    Err(Stop::Said(said)) => {
                        error.get_or_insert(said);
                        *done = true;
                    }
                }
            }
            Ok(())
        })?;
        Ok(brought)
    }

    /// Whether the server has said that nothing more will come.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether anything of an answer has come.
    pub(super) fn has_begun(&self) -> bool {
        self.gathered.has_begun()
    }

    /// Whether all of an answer has come, and how many tokens it has.
    pub(super) fn is_whole(&self) -> bool {
        self.error.is_none() && self.gathered.is_finished() && self.gathered.is_counted()
    }

    /// The answer, when nothing more comes.
    pub(super) fn finish(self) -> Result<Answer, Stop> {
        if let Some(said) = self.error {
            return Err(Stop::Said(said));
        }
        if self.done || self.gathered.is_finished() {
            Ok(self.gathered.finish())
        } else {
            Err(Fault::Broken { problem: "the stream ended without saying why".to_owned() }.into())
        }
    }
}

/// A whole answer or a piece of one; an error in its place is told apart, since its status was sent before it was known.
fn parse(body: &[u8]) -> Result<Completion, Stop> {
    let completion: Completion = serde_json::from_slice(body)
        .map_err(|error| Fault::Garbled { problem: format!("it is no JSON of its shape ({error})") })?;
    match completion.error {
        Some(_) => Err(Stop::Said(said(body))),
        None => Ok(completion),
    }
}

/// The message of an error in the protocol's form, or the text that came in its place; one line, cut.
pub(super) fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let message = serde_json::from_slice::<serde_json::Value>(body).ok().and_then(|value| {
        let error = value.get("error").unwrap_or(&value);
        let field = |name| error.get(name).and_then(|text| text.as_str()).unwrap_or_default();
        let words =
            [field("code"), field("type"), field("message"), error.as_str().unwrap_or_default(), field("detail")];
        let words = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(": ");
        (!words.is_empty()).then_some(words)
    });
    let mut line = message.unwrap_or_else(|| text.into_owned()).split_whitespace().collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(MAX_SAID));
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::damaged;

    #[test]
    fn of_an_error_its_code_and_message_are_shown_whatever_its_form() {
        assert_eq!(said(br#"{"error": {"message": "too\nlong", "type": "t", "code": "c"}}"#), "c: t: too long");
        assert_eq!(said(br#"{"object": "error", "message": "too long", "code": 400}"#), "too long");
        assert_eq!(said(br#"{"error": "too long"}"#), "too long");
        assert_eq!(said(br#"{"detail": "Not Found"}"#), "Not Found");
        assert_eq!(said(b"<html>Bad\n Gateway</html>"), "<html>Bad Gateway</html>");
        assert_eq!(said("é".repeat(4000).as_bytes()).len(), MAX_SAID);
    }

    const WHOLE: &[u8] = br#"{"choices": [{"message": {"content": "so", "reasoning_content": "hm", "tool_calls": [{"index": 0, "id": "a",
        "function": {"name": "bash", "arguments": "{}"}}]}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}"#;
    const STREAM: &[u8] = br#"data: {"choices": [{"delta": {"content": "so"}}]}

data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "bash", "arguments": "{\"command\":"}}]}}]}

data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "\"ls\"}"}}]}, "finish_reason": "stop"}]}

data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}

data: [DONE]

"#;

    #[test]
    fn what_the_damaged_bodies_are_made_of_is_read() {
        assert!(whole(WHOLE).is_ok_and(|answer| answer.calls.len() == 1));
        let mut pieces = Pieces::default();
        assert!(pieces.take(STREAM).is_ok_and(|brought| brought) && pieces.is_done());
        assert!(pieces.finish().is_ok_and(|answer| answer.calls[0].arguments == r#"{"command":"ls"}"#));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_whole_body_makes_the_reader_panic_or_keep_more_than_came(body in damaged(WHOLE)) {
            if let Ok(answer) = whole(&body) {
                prop_assert!(answer.content.len() <= body.len() && answer.calls.len() <= body.len());
            }
            prop_assert!(said(&body).len() <= MAX_SAID);
        }

        #[test]
        fn no_stream_makes_the_reader_panic_and_where_it_is_cut_changes_nothing(body in damaged(STREAM), cut in any::<prop::sample::Index>()) {
            let read = |parts: &[&[u8]]| {
                let mut pieces = Pieces::default();
                parts.iter().try_for_each(|part| pieces.take(part).map(drop)).map_err(|fault| fault.to_string())?;
                pieces.finish().map_err(|stop| match stop {
                    Stop::Fault(fault) => fault.to_string(),
                    Stop::Said(said) => said,
                })
            };
            let (one, other) = body.split_at(cut.index(body.len() + 1));
            prop_assert_eq!(read(&[&body]), read(&[one, other]));
        }
    }
}
