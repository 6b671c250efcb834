//! What a model says, told apart as it comes: thinking between `<think>` and `</think>`, calls as JSON between `<tool_call>` and `</tool_call>` (Hermes'
//! format), and text. What begins as a call and is none stays text.

use sera_chat::to_json;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

const THINK: &str = "<think>";
const THOUGHT: &str = "</think>";
const CALL: &str = "<tool_call>";
const CALLED: &str = "</tool_call>";

/// What parts of an answer are told apart by. Some tokenizers have them as special tokens, which are no text elsewhere.
pub(super) const TAGS: [&str; 4] = [THINK, THOUGHT, CALL, CALLED];

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Thinking(String),
    Text(String),
    /// A whole call; its arguments are JSON of an object.
    Call {
        name: String,
        arguments: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing was said yet: thinking may begin.
    Beginning,
    Thinking,
    Talking,
    Calling,
}

/// A model's answer on its way.
#[derive(Debug)]
pub(super) struct Speech {
    mode: Mode,
    /// What has come, and cannot be told apart yet.
    held: String,
    /// Line breaks before what begins as a call.
    breaks: String,
    /// How much of a call that is held has no end for certain.
    endless: usize,
    /// Whether calls are looked for.
    calls: bool,
    /// Whether line breaks are to be left out that come next: those between parts are the template's, not the model's.
    fresh: bool,
}

impl Speech {
    /// An answer that follows `prompt`, which may have begun to think; `calls` says whether tools may be called.
    pub(super) fn new(prompt: &str, calls: bool) -> Self {
        let mode = if prompt.trim_end().ends_with(THINK) { Mode::Thinking } else { Mode::Beginning };
        Self { mode, held: String::new(), breaks: String::new(), endless: 0, calls, fresh: true }
    }

    /// Takes the next piece of text, and gives what can be told apart.
    pub(super) fn take(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.go_on(&mut pieces) {}
        pieces
    }

    /// Gives what is left when nothing more comes.
    pub(super) fn end(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while self.mode == Mode::Calling && call(&self.held).is_none() {
            let Some(first) = self.held.find(CALLED) else { break };
            self.say_call(first, None, &mut pieces);
            while self.go_on(&mut pieces) {}
        }
        let held = std::mem::take(&mut self.held);
        let piece = match self.mode {
            Mode::Thinking => Piece::Thinking(held.trim_end_matches('\n').to_owned()),
            Mode::Calling => call(&held).unwrap_or_else(|| Piece::Text(format!("{}{CALL}{held}", self.breaks))),
            Mode::Beginning | Mode::Talking => Piece::Text(held),
        };
        pieces.extend(Some(piece).filter(|piece| !piece.is_empty()));
        pieces
    }

    /// Tells the next part apart; says whether another may follow in what is held.
    fn go_on(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if self.fresh {
            let breaks = self.held.len() - self.held.trim_start_matches('\n').len();
            self.held.drain(..breaks);
        }
        match self.mode {
            Mode::Beginning => self.begin(),
            Mode::Thinking => self.until(THOUGHT, Mode::Talking, pieces),
            Mode::Talking => {
                self.calls && self.until(CALL, Mode::Calling, pieces) || !self.calls && self.say_all(pieces)
            }
            Mode::Calling => self.call(pieces),
        }
    }

    fn begin(&mut self) -> bool {
        if self.held.is_empty() {
            return false;
        }
        if let Some(rest) = self.held.strip_prefix(THINK) {
            self.held = rest.to_owned();
            self.mode = Mode::Thinking;
            return true;
        }
        if THINK.starts_with(&self.held) {
            return false;
        }
        self.mode = Mode::Talking;
        true
    }

    /// Gives what is held up to `tag`, or to where it may begin.
    fn until(&mut self, tag: &str, next: Mode, pieces: &mut Vec<Piece>) -> bool {
        let found = self.held.find(tag);
        let end = found.unwrap_or_else(|| self.held.len() - partial(&self.held, tag));
        // Line breaks before a tag are not the model's words either: they wait for what follows them.
        let said = self.held[..end].trim_end_matches('\n').len();
        self.say(said, pieces);
        if found.is_none() {
            return false;
        }
        self.breaks = self.held[..end - said].to_owned();
        self.held.drain(..end - said + tag.len());
        (self.mode, self.fresh) = (next, next != Mode::Calling);
        true
    }

    fn say_all(&mut self, pieces: &mut Vec<Piece>) -> bool {
        self.say(self.held.len(), pieces);
        false
    }

    fn say(&mut self, end: usize, pieces: &mut Vec<Piece>) {
        if end == 0 {
            return;
        }
        let text: String = self.held.drain(..end).collect();
        self.fresh = false;
        pieces.push(if self.mode == Mode::Thinking { Piece::Thinking(text) } else { Piece::Text(text) });
    }

    fn call(&mut self, pieces: &mut Vec<Piece>) -> bool {
        while let Some(found) = self.held[self.endless..].find(CALLED) {
            let end = self.endless + found;
            let call = call(&self.held[..end]);
            if call.is_none() && is_within_text(&self.held[..end]) {
                // What a call says may spell out the tag.
                self.endless = end + CALLED.len();
                continue;
            }
            // What is none ends with its first tag: another may follow there.
            let end = if call.is_some() { end } else { self.held.find(CALLED).unwrap_or(end) };
            self.say_call(end, call, pieces);
            return true;
        }
        self.endless = self.held.len() - partial(&self.held, CALLED);
        false
    }

    /// Gives what is held up to the tag at `end`: the call that it is, or else text.
    fn say_call(&mut self, end: usize, call: Option<Piece>, pieces: &mut Vec<Piece>) {
        let text: String = self.held.drain(..end + CALLED.len()).collect();
        (self.mode, self.endless, self.fresh) = (Mode::Talking, 0, call.is_some());
        pieces.push(call.unwrap_or_else(|| Piece::Text(format!("{}{CALL}{text}", self.breaks))));
    }
}

impl Piece {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Thinking(text) | Self::Text(text) if text.is_empty())
    }
}

/// How much of the end of `text` may be the beginning of `tag`.
pub(super) fn partial(text: &str, tag: &str) -> usize {
    let longest = tag.len().saturating_sub(1).min(text.len());
    let fits = |count: &usize| tag.is_char_boundary(*count) && text.ends_with(&tag[..*count]);
    (1..=longest).rev().find(fits).unwrap_or_default()
}

/// Whether JSON is well-formed so far, and ends within a text; `serde_json` has no other word for it than what it says.
fn is_within_text(json: &str) -> bool {
    let read = serde_json::from_str::<IgnoredAny>(json);
    read.is_err_and(|error| error.is_eof() && error.to_string().starts_with("EOF while parsing a string"))
}

/// A call from its JSON, if it is one. Its arguments are written as Python writes them, as in what the model was taught.
fn call(json: &str) -> Option<Piece> {
    let call: Map<String, Value> = serde_json::from_str(json.trim()).ok()?;
    let name = call.get("name")?.as_str().filter(|name| !name.is_empty())?.to_owned();
    let arguments = match call.get("arguments") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::Object(arguments)) => Value::Object(arguments.clone()),
        // Some models write the object as text once more.
        Some(Value::String(text)) => Value::Object(serde_json::from_str(text).ok()?),
        Some(_) => return None,
    };
    Some(Piece::Call { name, arguments: to_json(&arguments) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The answer in pieces of so many characters, neighbours of one kind put together.
    fn told(prompt: &str, text: &str, calls: bool, size: usize) -> Vec<Piece> {
        let mut speech = Speech::new(prompt, calls);
        let characters: Vec<char> = text.chars().collect();
        let mut pieces: Vec<Piece> = Vec::new();
        for chunk in characters.chunks(size) {
            pieces.extend(speech.take(&chunk.iter().collect::<String>()));
        }
        pieces.extend(speech.end());
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (joined.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(text))
                | (Some(Piece::Thinking(before)), Piece::Thinking(text)) => before.push_str(&text),
                (_, piece) => joined.push(piece),
            }
        }
        joined
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn thinking(text: &str) -> Piece {
        Piece::Thinking(text.to_owned())
    }

    fn called(name: &str, arguments: &str) -> Piece {
        Piece::Call { name: name.to_owned(), arguments: arguments.to_owned() }
    }

    #[test]
    fn thinking_text_and_calls_are_told_apart_however_they_are_cut() {
        let answer = "<think>\nI look.\n\nOnce.\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"bash\", \"arguments\": {\"command\": \"ls é\", \"n\":1}}\n</tool_call>\n<tool_call>\n{\"name\": \"submit\"}\n</tool_call>";
        let expected = [
            thinking("I look.\n\nOnce."),
            text("Let me see."),
            called("bash", "{\"command\": \"ls é\", \"n\": 1}"),
            called("submit", "{}"),
        ];
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(told("", answer, true, size), expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_call_stays_text_to_the_letter() {
        for answer in [
            "<tool_call>\n{\"name\": \"bash\", \"arguments\": {\n</tool_call> and on",
            "<tool_call>{\"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
            "see <tool_call> is a tag",
            "so:\n\n<tool_call>\n{}\n</tool_call>\n",
            "a < b <tool",
            "line\n\nbreaks\n",
        ] {
            for size in [1, 4, 1000] {
                assert_eq!(told("", answer, true, size), [text(answer)], "pieces of {size}");
            }
        }
    }

    #[test]
    fn what_a_call_says_may_spell_out_the_tag_that_ends_it() {
        let call = |said: &str| {
            format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {{\"a\": \"{said}\"}}}}\n</tool_call>")
        };
        let answer = [call("x</tool_call>"), call(r#"\"</tool_call>\\</tool_call>"#), call("y")].join("\n");
        let expected = [r#"{"a": "x</tool_call>"}"#, r#"{"a": "\"</tool_call>\\</tool_call>"}"#, r#"{"a": "y"}"#];
        for size in [1, 3, 1000] {
            assert_eq!(
                told("", &answer, true, size),
                expected.map(|arguments| called("f", arguments)),
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn a_call_that_is_cut_within_a_text_is_none_and_hides_no_later_one() {
        let cut = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x</tool_call>";
        for size in [1, 3, 1000] {
            assert_eq!(told("", cut, true, size), [text(cut)], "pieces of {size}");
            let answer = format!("{cut}\n<tool_call>{{\"name\": \"g\"}}</tool_call>");
            for answer in [answer.as_str(), answer.trim_end_matches(CALLED)] {
                assert_eq!(told("", answer, true, size), [text(cut), called("g", "{}")], "pieces of {size}");
            }
        }
    }

    #[test]
    fn without_tools_nothing_is_a_call_and_thinking_is_looked_for_at_the_beginning_alone() {
        let call = "<tool_call>\n{\"name\": \"f\"}\n</tool_call>";
        assert_eq!(told("", call, false, 5), [text(call)]);
        assert_eq!(told("", "well <think>no</think>", true, 3), [text("well <think>no</think>")]);
    }

    #[test]
    fn a_prompt_may_have_begun_to_think_and_an_answer_may_end_anywhere() {
        assert_eq!(told("…<think>\n", "so\n</think>\n\nYes.", true, 4), [thinking("so"), text("Yes.")]);
        assert_eq!(told("", "<think>\nand th", true, 4), [thinking("and th")]);
        assert_eq!(told("", "<think>\n\n</think>\n\nYes.", true, 4), [text("Yes.")]);
        assert_eq!(
            told("", "<tool_call>\n{\"name\": \"f\"}", true, 4),
            [called("f", "{}")],
            "the end is as good as the tag"
        );
        assert!(told("", "", true, 1).is_empty());
    }

    #[test]
    fn the_beginning_of_a_tag_is_found_at_the_end() {
        assert_eq!((partial("a <to", CALL), partial("a", CALL), partial("<tool_call", CALL)), (3, 0, 10));
        assert_eq!(partial("é", "éa"), 2);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_cuts_do_not_matter(
            parts in prop::collection::vec(prop::sample::select(vec![
                "<think>", "</think>", "<tool_call>", "</tool_call>", "{\"name\": \"f\"}", "\n", "Q", "é", "<", "</", "{", "tool_call>",
                "{\"name\": \"f\", \"arguments\": {\"a\": \"", "\"}}", "\\",
            ]), 0..20),
            size in 1..9_usize,
        ) {
            let answer = parts.concat();
            let whole = told("", &answer, true, 10_000);
            prop_assert_eq!(told("", &answer, true, size), whole.clone());
            let letters = |text: &str| text.chars().filter(|letter| ['Q', 'é'].contains(letter)).count();
            let said = |piece: &Piece| match piece {
                Piece::Thinking(text) | Piece::Text(text) => letters(text),
                Piece::Call { arguments, .. } => letters(arguments),
            };
            prop_assert_eq!(whole.iter().map(said).sum::<usize>(), letters(&answer));
        }
    }
}
