//! Answers that take no steps: yes or no, and what is said to questions that no rollout asks.

use super::ask;
use super::conversation::Conversation;
use super::{Answer, Teacher};

/// Says whether a fix is valid: yes, but for the share of refusals.
pub(super) fn review(teacher: &Teacher, conversation: &Conversation) -> Answer {
    let question = conversation.question.as_deref().unwrap_or(&conversation.prompt);
    let about = [conversation.prompt.as_str(), question];
    let refuses = teacher.draw.share("review", &about) < teacher.behaviour.refusals;
    let (reason, word) = if refuses {
        ("The change does not match what was described closely enough.", "no")
    } else {
        ("The change is small, stays in the place that was named, and answers what was described.", "yes")
    };
    // The word stands alone, on the last line or between the tags that are asked for.
    let text = ask::tag(question).map_or_else(|| word.to_owned(), |tag| format!("<{tag}>{word}</{tag}>"));
    Answer { thinking: format!("I go through the steps once more. {reason}"), text, calls: Vec::new() }
}

/// Says what it is, and that it does nothing else.
pub(super) fn other() -> Answer {
    let text = "This is the rehearsal teacher of sera-operator: a program, not a model. It plays an agent's part in rollouts, and has nothing to say to anything else.";
    Answer { text: text.to_owned(), ..Answer::default() }
}
