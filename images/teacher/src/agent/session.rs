//! How a program that acts is written as if it could wait: it runs from the start of the conversation, is given what it saw at each step it took before,
//! and stops at the first step that was not taken yet, which is the next answer. Nothing has to be remembered between requests.

use super::conversation::Conversation;
use super::observation;
use super::shell;
use super::thoughts::{self, Phase};
use super::toolbox::{Action, Spoken, Toolbox};
use super::{Answer, Said};
use crate::draw::Draw;

/// The step at which the conversation stands.
#[derive(Debug)]
pub(super) struct Next(Answer);

/// What a step yields; as an error, the step at which the program has to stop and wait.
pub(super) type Step<T> = Result<T, Box<Next>>;

/// A program's view of the conversation.
pub(super) struct Session<'a> {
    pub(super) draw: Draw,
    pub(super) conversation: &'a Conversation,
    pub(super) toolbox: &'a Toolbox,
    /// How many steps were taken again so far.
    taken: usize,
}

impl Next {
    pub(super) fn answer(self) -> Answer {
        self.0
    }
}

impl<'a> Session<'a> {
    pub(super) const fn new(draw: Draw, conversation: &'a Conversation, toolbox: &'a Toolbox) -> Self {
        Self { draw, conversation, toolbox, taken: 0 }
    }

    /// Has a command executed, and gives what came of it.
    pub(super) fn run(&mut self, command: String, phase: Phase<'_>) -> Step<String> {
        self.act(&Action::Run(command), phase)
    }

    /// Looks at lines of a file, both included; gives what was shown of them from the first on.
    pub(super) fn view(&mut self, path: &str, from: usize, to: usize, phase: Phase<'_>) -> Step<Vec<String>> {
        if self.toolbox.can_view() {
            let shown = self.act(&Action::View { path: path.to_owned(), from, to }, phase)?;
            let lines = observation::viewed(&shown, from);
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
        let shown = self.run(shell::view(path, from, to), phase)?;
        Ok(observation::viewed(&shown, from))
    }

    /// Takes a step: the one that was taken here before, or else the next.
    pub(super) fn act(&mut self, action: &Action, phase: Phase<'_>) -> Step<String> {
        match self.conversation.exchanges.get(self.taken) {
            Some(exchange) => {
                self.taken += 1;
                Ok(exchange.observation.clone())
            }
            None => Err(Box::new(Next(self.answer(action, phase)))),
        }
    }

    fn answer(&self, action: &Action, phase: Phase<'_>) -> Answer {
        let turn = self.taken.to_string();
        let about = [self.conversation.prompt.as_str(), &turn];
        let (thinking, text) = thoughts::of(self.draw, phase, &about);
        match self.toolbox.speak(action) {
            Spoken::Call { name, arguments } => {
                let id = format!("call_{:016x}{turn}", self.draw.number("call", &about));
                let arguments = serde_json::Value::Object(arguments).to_string();
                Answer { thinking, text, calls: vec![Said { id, name, arguments }] }
            }
            Spoken::Fenced(command) => {
                Answer { thinking: String::new(), text: format!("THOUGHT: {thinking}\n\n{command}"), calls: Vec::new() }
            }
            Spoken::Nothing => Answer {
                thinking,
                text: if text.is_empty() { "The work is done.".to_owned() } else { text },
                calls: Vec::new(),
            },
        }
    }
}
