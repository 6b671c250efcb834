//! The one shape that trajectories for training have: a system message, one user turn, and then calls and their answers in turn. What has another shape
//! would be trained on in another way than it is served, and is refused.

use sera_crds::contract::{Message, ToolCall, Trajectory};

/// A trajectory of that shape.
pub(super) struct Shape<'a> {
    pub(super) tools: &'a [serde_json::Value],
    pub(super) system: &'a str,
    pub(super) task: &'a str,
    /// The turns, in order; the last one has no answer that anybody read.
    pub(super) exchanges: Vec<Exchange<'a>>,
}

/// One turn of the assistant and what the tool answered.
pub(super) struct Exchange<'a> {
    /// The thinking; where there was none, the text that stood in its place. Never empty.
    pub(super) thinking: &'a str,
    pub(super) call: &'a ToolCall,
    /// None after the last turn.
    pub(super) answer: Option<Answer<'a>>,
}

/// What a tool answered.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) content: &'a str,
    /// Whether it is the review that the first submit shows.
    pub(super) review: bool,
}

/// Why a trajectory has not that shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misshapen {
    /// It does not begin with the system's message and the task.
    #[error("it does not begin with a system message and a user's")]
    Beginning,
    /// Nothing was answered.
    #[error("it has no turn of the assistant")]
    Empty,
    /// Two user turns, two calls in a row, an answer to another call.
    #[error("message {0} is not the call, or the answer to it, that has to stand there")]
    Order(usize),
    /// A turn with a call and nothing else.
    #[error("the assistant's message {0} has neither thinking nor text")]
    NoThinking(usize),
}

impl<'a> Shape<'a> {
    /// Reads a trajectory.
    pub(super) fn of(trajectory: &'a Trajectory) -> Result<Self, Misshapen> {
        let [Message::System { content: system }, Message::User { content: task }, turns @ ..] =
            trajectory.messages.as_slice()
        else {
            return Err(Misshapen::Beginning);
        };
        let mut exchanges: Vec<Exchange<'_>> = Vec::new();
        for (position, turn) in turns.iter().enumerate() {
            let open = exchanges.last_mut().filter(|last| last.answer.is_none());
            match (turn, open) {
                (Message::Assistant { content, reasoning, tool_call: call, .. }, None) => {
                    let thinking = thinking(content, reasoning.as_deref());
                    let thinking = thinking.ok_or(Misshapen::NoThinking(position + 2))?;
                    exchanges.push(Exchange { thinking, call, answer: None });
                }
                (Message::Tool { tool_call_id, content, review }, Some(open)) if *tool_call_id == open.call.id => {
                    open.answer = Some(Answer { content, review: *review });
                }
                _ => return Err(Misshapen::Order(position + 2)),
            }
        }
        // What comes after the last turn teaches nothing.
        exchanges.last_mut().ok_or(Misshapen::Empty)?.answer = None;
        Ok(Self { tools: &trajectory.tools, system, task, exchanges })
    }

    /// How many messages it has as a line.
    pub(super) fn messages(&self) -> usize {
        2 + self.exchanges.iter().map(|exchange| 1 + usize::from(exchange.answer.is_some())).sum::<usize>()
    }
}

/// The thinking without the line breaks around it, which templates put there themselves; the text where there is none.
fn thinking<'a>(content: &'a str, reasoning: Option<&'a str>) -> Option<&'a str> {
    [reasoning.unwrap_or_default(), content]
        .map(|text| text.trim_matches('\n'))
        .into_iter()
        .find(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dataset::testing::{answer, trajectory, turn};

    #[test]
    fn exchanges_are_read_in_order_and_what_follows_the_last_turn_is_left_out() {
        let mut trajectory = trajectory(2);
        let shape = Shape::of(&trajectory).unwrap();
        assert_eq!((shape.exchanges.len(), shape.messages()), (4, 9));
        assert!(shape.exchanges[2].answer.is_some_and(|answer| answer.review) && shape.exchanges[3].answer.is_none());
        trajectory.messages.push(answer("second-submit", "bye"));
        assert_eq!(Shape::of(&trajectory).unwrap().messages(), 9);
    }

    #[test]
    fn text_takes_the_place_of_thinking_that_is_missing_or_empty_and_is_dropped_beside_it() {
        let mut trajectory = trajectory(0);
        for (reasoning, text, expected) in [
            (Some("\n\nthought\n"), "text", Some("thought")),
            (None, "\ntext ", Some("text ")),
            (Some(" \n"), "text", Some("text")),
            (Some(""), "\n", None),
        ] {
            let mut replaced = turn("x", "", "submit", json!({}));
            if let Message::Assistant { content, reasoning: thinking, .. } = &mut replaced {
                (*content, *thinking) = (text.to_owned(), reasoning.map(str::to_owned));
            }
            trajectory.messages[4] = replaced;
            let shape = Shape::of(&trajectory);
            assert_eq!(
                shape.as_ref().ok().map(|shape| shape.exchanges[1].thinking),
                expected,
                "{reasoning:?} {text:?}"
            );
            if expected.is_none() {
                assert_eq!(shape.err(), Some(Misshapen::NoThinking(4)));
            }
        }
    }

    #[test]
    fn another_shape_is_refused_by_the_message_that_does_not_fit() {
        let whole = trajectory(2);
        let changed = |change: &dyn Fn(&mut Vec<Message>)| {
            let mut trajectory = whole.clone();
            change(&mut trajectory.messages);
            Shape::of(&trajectory).err()
        };
        assert_eq!(changed(&|messages| drop(messages.remove(0))), Some(Misshapen::Beginning));
        assert_eq!(changed(&|messages| messages.truncate(2)), Some(Misshapen::Empty));
        assert_eq!(changed(&|messages| drop(messages.remove(3))), Some(Misshapen::Order(3)));
        assert_eq!(
            changed(&|messages| messages[4] = Message::User { content: "And now?".into() }),
            Some(Misshapen::Order(4))
        );
        assert_eq!(changed(&|messages| messages[3] = answer("another", "x")), Some(Misshapen::Order(3)));
    }
}
