//! A finished first rollout as a conversation that goes on: what the self-review and the request for a pull request are added to. It begins with the
//! same bytes as the rollout itself, so that the teacher's prefix cache still has them.

use sera_crds::contract::{Message, ToolCall, Trajectory};
use serde_json::Value;

use crate::chat::{Conversation, RawCall};

/// What answers the submit that ended a rollout.
const HANDED_IN: &str = "Your changes have been handed in.";
/// The first messages, which are never dropped: the rules and the task.
const TASK: usize = 2;

/// Answers the last call, if nothing did: what the protocol wants before anybody else may speak.
pub(super) fn close(conversation: &mut Conversation, messages: &[Message]) {
    if let Some(Message::Assistant { tool_call, .. }) = messages.last() {
        conversation.push_observation(&tool_call.id, HANDED_IN);
    }
}

/// The conversation of a trajectory that was kept, closed.
pub(super) fn conversation(trajectory: &Trajectory) -> Conversation {
    of(&trajectory.tools, &trajectory.messages)
}

/// The conversation without the first quarter of its turns.
pub(super) fn without_first_quarter(tools: &[Value], messages: &mut Vec<Message>) -> Conversation {
    let turns = messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
    let dropped = turns.div_ceil(4);
    let end = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| matches!(message, Message::Assistant { .. }))
        .nth(dropped)
        .map_or(messages.len(), |(position, _)| position);
    messages.drain(TASK.min(end)..end);
    of(tools, messages)
}

fn of(tools: &[Value], messages: &[Message]) -> Conversation {
    let mut conversation = Conversation::new(tools);
    for message in messages {
        match message {
            Message::System { content } => conversation.push_system(content),
            Message::User { content } => conversation.push_user(content),
            Message::Assistant { content, reasoning, tool_call, .. } => {
                conversation.push_kept(content, reasoning.as_deref(), &raw(tool_call));
            }
            Message::Tool { tool_call_id, content, .. } => conversation.push_observation(tool_call_id, content),
        }
    }
    close(&mut conversation, messages);
    conversation
}

fn raw(call: &ToolCall) -> RawCall {
    RawCall {
        id: call.id.clone(),
        name: call.name.clone(),
        arguments: Value::Object(call.arguments.clone()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(turns: usize) -> Vec<Message> {
        let mut messages = vec![Message::System { content: "rules".into() }, Message::User { content: "task".into() }];
        for turn in 0..turns {
            let id = format!("c{turn}");
            let tool_call = ToolCall { id: id.clone(), name: "bash".into(), arguments: serde_json::Map::new() };
            messages.push(Message::Assistant { content: String::new(), reasoning: None, tool_call, usage: None });
            messages.push(Message::Tool { tool_call_id: id, content: format!("seen {turn}"), review: false });
        }
        messages.pop();
        messages
    }

    #[test]
    fn the_first_quarter_of_the_turns_goes_and_the_task_stays() {
        let mut left = messages(8);
        let all = left.clone();
        without_first_quarter(&[], &mut left);
        assert_eq!(left[..2], all[..2]);
        assert_eq!(left[2..], all[2 + 4..], "two of eight turns, each a call and its answer");
        for _ in 0..9 {
            without_first_quarter(&[], &mut left);
        }
        assert_eq!(left, all[..2], "it comes to its end");
    }
}
