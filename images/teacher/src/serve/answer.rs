//! One answer on its way: the model's tokens become pieces of thinking, text and calls, until something ends it. Whoever drops it hangs up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sera_chat::Chat;
use sera_trainer::inference::{Ending, Event};
use tokio::sync::mpsc::UnboundedReceiver;

use super::metrics::Metrics;
use super::speech::{Piece, Speech};
use super::text::{Stops, Text};
use crate::http::Refusal;
use crate::protocol::{Finish, TokenCounts};

/// What comes next of an answer.
#[derive(Debug)]
pub(super) enum Next {
    Piece(Piece),
    /// Nothing that can be said yet: the model writes a call, which is told whole.
    Working,
    End(Finish),
}

/// How long an answer that is being written says nothing at most: clients take one that is silent for too long for one that has stopped.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// What an answer is made with.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) chat: Arc<Chat>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: UnboundedReceiver<Event>,
    /// The end of what the model reads.
    pub(super) prompt_end: String,
    pub(super) prompt_tokens: usize,
    pub(super) stops: Vec<String>,
    /// How many calls it may have.
    pub(super) calls: usize,
    pub(super) began: Instant,
}

#[derive(Debug)]
pub(super) struct Answer {
    events: UnboundedReceiver<Event>,
    text: Text,
    stops: Stops,
    speech: Speech,
    /// How many calls may still come.
    calls: usize,
    called: bool,
    ready: VecDeque<Piece>,
    end: Option<Finish>,
    prompt_tokens: usize,
    watch: Watch,
    /// When it last said something, and how long it may say nothing.
    said: Instant,
    sign_of_life: Duration,
}

impl Answer {
    pub(super) fn new(making: Making) -> Self {
        let Making { chat, metrics, events, prompt_end, prompt_tokens, stops, calls, began } = making;
        Self {
            events,
            text: Text::new(chat),
            stops: Stops::new(stops),
            speech: Speech::new(&prompt_end, calls > 0),
            calls,
            called: false,
            ready: VecDeque::new(),
            end: None,
            prompt_tokens,
            watch: Watch { metrics, began, ended: false, counts: TokenCounts::default() },
            said: Instant::now(),
            sign_of_life: SIGN_OF_LIFE,
        }
    }

    /// What it took so far.
    pub(super) fn counts(&self) -> TokenCounts {
        self.watch.counts
    }

    /// What comes next; after its end, nothing more may be asked for.
    pub(super) async fn next(&mut self) -> Result<Next, Refusal> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.said = Instant::now();
                return Ok(Next::Piece(piece));
            }
            if let Some(finish) = self.end {
                self.watch.ended(finish.name());
                return Ok(Next::End(finish));
            }
            let event = self.events.recv().await;
            if let Err(refusal) = self.take(event.as_ref()) {
                self.watch.ended("failed");
                return Err(refusal);
            }
            let is_silent = self.ready.is_empty() && self.end.is_none();
            if is_silent && self.watch.counts.completion > 0 && self.said.elapsed() >= self.sign_of_life {
                self.said = Instant::now();
                return Ok(Next::Working);
            }
        }
    }

    fn take(&mut self, event: Option<&Event>) -> Result<(), Refusal> {
        match event {
            Some(Event::Read { cached }) => {
                self.watch.counts.prompt = self.prompt_tokens as u64;
                self.watch.counts.cached = *cached as u64;
                self.watch.first();
            }
            Some(Event::Token(token)) => {
                self.watch.counts.completion += 1;
                let text = self.text.take(*token).map_err(|error| Refusal::broken(&error.to_string()))?;
                self.say(&text);
            }
            Some(Event::Ended(Ending::Stop)) => {
                // The token that ends it is one that the model wrote.
                self.watch.counts.completion += 1;
                self.finish(Finish::Stop)?;
            }
            Some(Event::Ended(Ending::Length)) => self.finish(Finish::Length)?,
            Some(Event::Ended(Ending::Damaged)) => {
                return Err(Refusal::broken("the model computes what is no number; its weights are damaged"));
            }
            None => return Err(Refusal::broken("the model does not answer any more")),
        }
        Ok(())
    }

    /// Takes the next text of the model.
    fn say(&mut self, text: &str) {
        let (text, stopped) = self.stops.take(text);
        let pieces = self.speech.take(&text);
        self.add(pieces);
        if stopped && self.end.is_none() {
            let left = self.speech.end();
            self.add(left);
            self.close(Finish::Stop);
        }
    }

    /// Gives out what was still held back.
    fn finish(&mut self, finish: Finish) -> Result<(), Refusal> {
        let left = self.text.end().map_err(|error| Refusal::broken(&error.to_string()))?;
        self.say(&left);
        if self.end.is_none() {
            let held = self.stops.end();
            let mut pieces = self.speech.take(&held);
            pieces.extend(self.speech.end());
            self.add(pieces);
            self.close(finish);
        }
        Ok(())
    }

    fn add(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            if self.end.is_some() {
                return;
            }
            let call = matches!(piece, Piece::Call { .. });
            self.ready.push_back(piece);
            if call {
                self.called = true;
                self.calls -= 1;
                if self.calls == 0 {
                    self.close(Finish::Stop);
                }
            }
        }
    }

    /// Nothing more is wanted of the model.
    fn close(&mut self, finish: Finish) {
        self.events.close();
        self.end = Some(if self.called && finish == Finish::Stop { Finish::ToolCalls } else { finish });
    }
}

/// Notes how an answer ended, and what it took; one that is dropped before has been hung up on.
#[derive(Debug)]
struct Watch {
    metrics: Arc<Metrics>,
    began: Instant,
    ended: bool,
    /// What it took so far: a prompt counts once it has been read.
    counts: TokenCounts,
}

impl Watch {
    fn first(&self) {
        self.metrics.first_token(self.began.elapsed());
    }

    fn ended(&mut self, outcome: &str) {
        if !self.ended {
            self.ended = true;
            tracing::debug!(outcome, counts = ?self.counts, "answered");
            self.metrics.ended(outcome, self.counts, self.began.elapsed());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended("hung_up");
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../trainer/chat/tests/tiny")
    }

    fn chat() -> Arc<Chat> {
        Arc::new(Chat::load(&folder()).unwrap())
    }

    /// What becomes of a text that a model says, and how it ends.
    fn answered(said: &str, stops: &[&str], calls: usize, ending: Ending) -> (Vec<Piece>, Finish, TokenCounts) {
        answered_by(chat(), said, stops, calls, ending)
    }

    fn answered_by(
        chat: Arc<Chat>,
        said: &str,
        stops: &[&str],
        calls: usize,
        ending: Ending,
    ) -> (Vec<Piece>, Finish, TokenCounts) {
        let (sender, events) = unbounded_channel();
        sender.send(Event::Read { cached: 16 }).unwrap();
        chat.encode(said).unwrap().into_iter().for_each(|token| sender.send(Event::Token(token)).unwrap());
        sender.send(Event::Ended(ending)).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let stops = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let (prompt_end, began) = (String::new(), Instant::now());
        let mut answer =
            Answer::new(Making { chat, metrics, events, prompt_end, prompt_tokens: 20, stops, calls, began });
        let mut pieces: Vec<Piece> = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            loop {
                match (answer.next().await.unwrap(), pieces.last_mut()) {
                    (Next::Piece(Piece::Text(text)), Some(Piece::Text(before)))
                    | (Next::Piece(Piece::Thinking(text)), Some(Piece::Thinking(before))) => before.push_str(&text),
                    (Next::Piece(piece), _) => pieces.push(piece),
                    (Next::Working, _) => {}
                    (Next::End(finish), _) => return (pieces, finish, answer.counts()),
                }
            }
        })
    }

    const CALLS: &str =
        "Go.\n<tool_call>\n{\"name\": \"a\"}\n</tool_call>\n<tool_call>\n{\"name\": \"b\"}\n</tool_call>";

    #[test]
    fn calls_finish_an_answer_as_calls_and_no_more_come_than_are_allowed() {
        let (pieces, finish, counts) = answered(CALLS, &[], usize::MAX, Ending::Stop);
        assert_eq!((pieces.len(), finish), (3, Finish::ToolCalls));
        assert_eq!((counts.prompt, counts.cached), (20, 16));
        assert_eq!(answered(CALLS, &[], 1, Ending::Stop).0, pieces[..2]);
        assert_eq!(answered(CALLS, &[], 0, Ending::Stop).1, Finish::Stop);
        assert_eq!(answered(CALLS, &[], usize::MAX, Ending::Length).1, Finish::Length);
    }

    #[test]
    fn tags_that_the_tokenizer_has_as_special_tokens_are_found_all_the_same() {
        let read = |name: &str| {
            let file = std::fs::read(folder().join(name))?;
            if name != "tokenizer.json" {
                return Ok(file);
            }
            let mut tokenizer: Value = serde_json::from_slice(&file)?;
            let added = tokenizer["added_tokens"].as_array_mut().unwrap();
            added.iter_mut().for_each(|token| token["special"] = true.into());
            Ok(tokenizer.to_string().into_bytes())
        };
        let special = Arc::new(Chat::load_from(&folder(), read).unwrap());
        let said = format!("<think>\nSo.\n</think>\n\n{CALLS}<|endoftext|>");
        let answered = answered_by(special, &said, &[], usize::MAX, Ending::Stop);
        assert_eq!(answered.0.first(), Some(&Piece::Thinking("So.".to_owned())));
        assert_eq!((answered.0.len(), answered.1), (4, Finish::ToolCalls));
        assert_eq!(answered_by(chat(), &said, &[], usize::MAX, Ending::Stop), answered);
    }

    #[tokio::test]
    async fn an_answer_that_is_hung_up_on_counts_what_it_took_until_then() {
        for (read, line) in [(false, "prompt\"} 0"), (true, "prompt\"} 20")] {
            let (chat, (sender, events)) = (chat(), unbounded_channel());
            let (metrics, began) = (Arc::new(Metrics::new().unwrap()), Instant::now());
            let (prompt_end, stops) = (String::new(), Vec::new());
            let shown = Arc::clone(&metrics);
            let making = Making { chat, metrics, events, prompt_end, prompt_tokens: 20, stops, calls: 0, began };
            let mut answer = Answer::new(making);
            if read {
                sender.send(Event::Read { cached: 16 }).unwrap();
                (0..3).for_each(|_| sender.send(Event::Token(64)).unwrap());
                for _ in 0..3 {
                    assert!(matches!(answer.next().await.unwrap(), Next::Piece(_)));
                }
            }
            drop(answer);
            let shown = shown.text(None);
            let taken = if read { ["cached\"} 16", "completion\"} 3"] } else { ["cached\"} 0", "completion\"} 0"] };
            for line in taken.into_iter().chain([line]) {
                assert!(shown.contains(&format!("sera_serving_tokens_total{{tokens=\"{line}\n")), "{line}: {shown}");
            }
            assert!(shown.contains("{outcome=\"hung_up\"} 1"), "{shown}");
        }
    }

    #[tokio::test]
    async fn while_a_call_is_written_there_are_signs_of_life_and_before_the_first_token_there_are_none() {
        let (chat, (sender, events)) = (chat(), unbounded_channel());
        let (metrics, began) = (Arc::new(Metrics::new().unwrap()), Instant::now());
        let tokens = chat.encode("<tool_call>\n{\"name\": \"a\"}\n</tool_call>").unwrap();
        let (prompt_end, stops) = (String::new(), Vec::new());
        let making = Making { chat, metrics, events, prompt_end, prompt_tokens: 9, stops, calls: 1, began };
        let mut answer = Answer { sign_of_life: Duration::ZERO, ..Answer::new(making) };
        let silent = tokio::time::timeout(Duration::from_millis(50), answer.next()).await;
        assert!(silent.is_err(), "a model that writes nothing shows no life");
        tokens.into_iter().for_each(|token| sender.send(Event::Token(token)).unwrap());
        let (mut signs, mut call) = (0, false);
        loop {
            match answer.next().await.unwrap() {
                Next::Working if !call => signs += 1,
                Next::Working => {}
                Next::Piece(piece) => call = matches!(piece, Piece::Call { .. }),
                Next::End(finish) => break assert_eq!(finish, Finish::ToolCalls),
            }
        }
        assert!(call && signs > 2, "{signs} signs before the call");
    }

    #[test]
    fn a_stop_cuts_the_answer_and_what_looked_like_one_is_said() {
        let text = |text: &str| vec![Piece::Text(text.to_owned())];
        let (pieces, finish, _) = answered("one two three", &["two"], 0, Ending::Length);
        assert_eq!((pieces, finish), (text("one "), Finish::Stop));
        let (pieces, finish, counts) = answered("one tw", &["two"], 0, Ending::Stop);
        assert_eq!((pieces, finish), (text("one tw"), Finish::Stop));
        assert!(counts.completion > 1);
    }
}
