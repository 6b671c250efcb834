//! Tokens to text as they come, the tags among them that answers are told apart by: a character that takes several tokens waits for all of them, and texts that end an answer are looked for.

use std::sync::Arc;

use sera_chat::{Chat, ChatError};

use super::speech::{TAGS, partial};

/// What stands for bytes that are no character yet.
const UNFINISHED: char = '\u{fffd}';

/// The text of an answer's tokens.
#[derive(Debug)]
pub(super) struct Text {
    chat: Arc<Chat>,
    tokens: Vec<u32>,
    /// Tokens before these do not change how later ones are written.
    context: usize,
    /// The text of tokens before these was given.
    given: usize,
}

impl Text {
    pub(super) fn new(chat: Arc<Chat>) -> Self {
        Self { chat, tokens: Vec::new(), context: 0, given: 0 }
    }

    /// Takes the next token, and gives the text that is whole with it.
    pub(super) fn take(&mut self, token: u32) -> Result<String, ChatError> {
        self.tokens.push(token);
        self.next(false)
    }

    /// Gives what is left when no more tokens come.
    pub(super) fn end(&mut self) -> Result<String, ChatError> {
        self.next(true)
    }

    fn next(&mut self, last: bool) -> Result<String, ChatError> {
        let before = self.chat.decode_text(&self.tokens[self.context..self.given], &TAGS)?;
        let all = self.chat.decode_text(&self.tokens[self.context..], &TAGS)?;
        let Some(new) = all.strip_prefix(&before).filter(|new| last || !new.ends_with(UNFINISHED)) else {
            return Ok(String::new());
        };
        (self.context, self.given) = (self.given, self.tokens.len());
        Ok(new.to_owned())
    }
}

/// Looks for texts that end an answer, and are no part of it.
#[derive(Debug)]
pub(super) struct Stops {
    stops: Vec<String>,
    /// What may be the beginning of one.
    held: String,
}

impl Stops {
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes the next piece, and gives what is before a stop for certain; and whether one was found.
    pub(super) fn take(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(first) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(first);
            return (std::mem::take(&mut self.held), true);
        }
        let waiting = self.stops.iter().map(|stop| partial(&self.held, stop)).max().unwrap_or_default();
        let rest = self.held.split_off(self.held.len() - waiting);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Gives what is left when nothing more comes.
    pub(super) fn end(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn chat() -> Arc<Chat> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../trainer/chat/tests/tiny");
        Arc::new(Chat::load(&folder).unwrap())
    }

    #[test]
    fn characters_of_several_tokens_are_given_whole() {
        let (chat, said) = (chat(), "Größe: 火事 🦀 e\u{301}.\n");
        let tokens = chat.encode(said).unwrap();
        let mut text = Text::new(Arc::clone(&chat));
        let mut given: Vec<String> = tokens.iter().map(|token| text.take(*token).unwrap()).collect();
        assert!(given.iter().any(String::is_empty), "some characters take several tokens");
        assert!(given.iter().all(|piece| !piece.contains(UNFINISHED)));
        given.push(text.end().unwrap());
        assert_eq!(given.concat(), said);
    }

    #[test]
    fn an_answer_that_ends_within_a_character_says_so() {
        let chat = chat();
        let tokens = chat.encode("a🦀").unwrap();
        let mut text = Text::new(Arc::clone(&chat));
        let given: String = tokens[..tokens.len() - 1].iter().map(|token| text.take(*token).unwrap()).collect();
        assert_eq!((given.as_str(), text.end().unwrap().contains(UNFINISHED)), ("a", true));
    }

    #[test]
    fn a_stop_is_found_across_pieces_and_what_only_looks_like_one_is_given() {
        let mut stops = Stops::new(vec!["END".to_owned(), "\n\n".to_owned()]);
        assert_eq!(stops.take("a E"), ("a ".to_owned(), false));
        assert_eq!(stops.take("N"), (String::new(), false));
        assert_eq!(stops.take("E E"), ("ENE ".to_owned(), false));
        assert_eq!(stops.take("ND more"), (String::new(), true));
        let mut stops = Stops::new(vec!["END".to_owned()]);
        assert_eq!((stops.take("x EN").0, stops.end()), ("x ".to_owned(), "EN".to_owned()));
        assert_eq!(Stops::new(Vec::new()).take("all").0, "all");
    }
}
