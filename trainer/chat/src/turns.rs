//! Where each message of a conversation lies in its text, and what of it the assistant wrote. Found by rendering, not by looking for headers: what a
//! tool prints may spell them out.

use std::ops::Range;

use crate::conversation::{Conversation, Message};
use crate::template::{ChatTemplate, TemplateError};

/// A conversation's text, and its turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendering {
    /// The text.
    pub text: String,
    /// The messages' places in it, in order; together they are the whole text.
    pub turns: Vec<Turn>,
}

/// The place of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// All that the message adds to the text (bytes).
    pub whole: Range<usize>,
    /// What an assistant writes itself, after the prompt that it is given for it and up to the token that ends its turn; none for others.
    pub written: Option<Range<usize>>,
}

/// Why the turns of a conversation cannot be told apart under a template.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A later message changes what an earlier one looks like: Qwen3's template drops the thinking before the last real user turn.
    #[error(
        "message {position} ({role}) is rendered in another way once others follow it, so that what is trained would not be what is served"
    )]
    Rewritten {
        /// The message's position, from 0.
        position: usize,
        /// Its role.
        role: String,
    },
    /// An assistant's turn does not begin with what the template gives the assistant to begin with.
    #[error("message {position}, an assistant's, is rendered without the generation prompt {prompt:?} before it")]
    NoPrompt {
        /// The message's position, from 0.
        position: usize,
        /// The prompt.
        prompt: String,
    },
}

/// Finds the turns. `ends_turn` says whether a text ends in a special token.
pub(crate) fn find(
    template: &ChatTemplate,
    conversation: &Conversation,
    ends_turn: impl Fn(&str) -> bool,
) -> Result<Rendering, TurnError> {
    let text = template.render(conversation, false)?;
    let ends = match by_window(template, conversation, &text) {
        Some(ends) => ends,
        None => by_prefix(template, conversation, &text)?,
    };
    let prompt = generation_prompt(template, conversation)?;
    let mut begin = 0;
    let mut turns = Vec::with_capacity(ends.len());
    for (position, (message, end)) in conversation.messages.iter().zip(ends).enumerate() {
        let whole = begin..end;
        begin = end;
        let written = (message.role == "assistant").then(|| written(&text, &whole, &prompt, &ends_turn)).transpose();
        let written = written.map_err(|()| TurnError::NoPrompt { position, prompt: prompt.clone() })?;
        turns.push(Turn { whole, written });
    }
    Ok(Rendering { text, turns })
}

/// What the assistant writes of its turn: what follows the prompt, without the line break that some templates put after the token that ends it.
fn written(
    text: &str,
    whole: &Range<usize>,
    prompt: &str,
    ends_turn: impl Fn(&str) -> bool,
) -> Result<Range<usize>, ()> {
    let turn = &text[whole.clone()];
    if !turn.starts_with(prompt) {
        return Err(());
    }
    let trimmed = turn.trim_end();
    let length = if ends_turn(trimmed) && trimmed.len() > prompt.len() { trimmed.len() } else { turn.len() };
    Ok(whole.start + prompt.len()..whole.start + length)
}

/// What the template writes before an assistant's turn.
fn generation_prompt(template: &ChatTemplate, conversation: &Conversation) -> Result<String, TemplateError> {
    let opening = conversation.of(vec![Conversation::placeholder("user")]);
    let without = template.render(&opening, false)?;
    let with = template.render(&opening, true)?;
    Ok(with.strip_prefix(without.as_str()).unwrap_or_default().to_owned())
}

/// The ends of all turns by the definition: each beginning of the conversation, rendered, must be a beginning of the whole text. Quadratic.
fn by_prefix(template: &ChatTemplate, conversation: &Conversation, text: &str) -> Result<Vec<usize>, TurnError> {
    let head = head(conversation);
    let mut ends = Vec::with_capacity(conversation.len());
    for (position, message) in conversation.messages.iter().enumerate() {
        let beginning = conversation.of(conversation.messages[..=position].to_vec());
        match template.render(&beginning, false) {
            Ok(beginning) if text.starts_with(&beginning) => ends.push(beginning.len()),
            // Some templates do not render, or render in another way, what has no user turn yet.
            _ if position + 1 < head => ends.push(0),
            Ok(_) => return Err(TurnError::Rewritten { position, role: message.role.clone() }),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ends)
}

/// The same, in time that grows with the text: what a message adds is found from its neighbour and itself after a short opening, and believed only
/// if all of it together is the whole text to the byte. None where it is not.
fn by_window(template: &ChatTemplate, conversation: &Conversation, text: &str) -> Option<Vec<usize>> {
    let head = head(conversation);
    let messages = &conversation.messages;
    let opening: Vec<Message> =
        messages[..head].iter().map(|message| Conversation::placeholder(&message.role)).collect();
    let mut ends = by_prefix(template, &conversation.of(messages[..head].to_vec()), text).ok()?;
    let mut end = ends.last().copied().unwrap_or_default();
    for position in head..messages.len() {
        let mut window = opening.clone();
        window.extend((position > head).then(|| messages[position - 1].clone()));
        let before = template.render(&Conversation { tools: None, ..conversation.of(window.clone()) }, false).ok()?;
        window.push(messages[position].clone());
        let with = template.render(&Conversation { tools: None, ..conversation.of(window) }, false).ok()?;
        let added = with.strip_prefix(before.as_str())?;
        if !text[end..].starts_with(added) {
            return None;
        }
        end += added.len();
        ends.push(end);
    }
    (end == text.len()).then_some(ends)
}

/// How many messages open the conversation: up to the first user's.
fn head(conversation: &Conversation) -> usize {
    conversation.messages.iter().position(|message| message.role == "user").map_or(0, |position| position + 1)
}
