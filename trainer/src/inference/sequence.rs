//! A request on its way: its tokens, how far they are computed, and the blocks that hold them.

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::blocks::{self, BLOCK, BlockId, Name};
use super::sampling::{Sampler, Sampling};

/// What is asked of a model.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// The tokens to go on from; at least one.
    pub tokens: Vec<u32>,
    /// The most tokens that are added; at least one.
    pub limit: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer, and are no part of it.
    pub ends: Vec<u32>,
}

/// What becomes of a prompt, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The whole prompt has been read, and so many of its tokens were in the cache.
    Read {
        /// Tokens that were not computed again.
        cached: usize,
    },
    /// The next token.
    Token(u32),
    /// There is no more.
    Ended(Ending),
}

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The model chose a token that ends.
    Stop,
    /// The limit was reached.
    Length,
    /// The model computes what is no number: its weights are damaged.
    Damaged,
}

#[derive(Debug)]
pub(super) struct Sequence {
    /// The prompt's tokens, and those of the answer so far.
    pub(super) tokens: Vec<u32>,
    prompt: usize,
    limit: usize,
    ends: Vec<u32>,
    sampler: Sampler,
    events: UnboundedSender<Event>,
    /// How many tokens have their keys and values in the cache.
    pub(super) computed: usize,
    pub(super) blocks: Vec<BlockId>,
    /// The names of the full blocks of `tokens`, as far as they were needed.
    names: Vec<Name>,
    /// How many of the prompt's tokens were in the cache.
    pub(super) cached: usize,
    /// Whether it has been computed before, and what is found in the cache may be its own.
    pub(super) begun: bool,
    /// Its place among all that may be under way; it is given back at its end, or with the sequence.
    place: Option<OwnedSemaphorePermit>,
}

impl Sequence {
    pub(super) fn new(prompt: Prompt, events: UnboundedSender<Event>, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            prompt: prompt.tokens.len(),
            tokens: prompt.tokens,
            limit: prompt.limit,
            ends: prompt.ends,
            sampler: Sampler::new(prompt.sampling),
            events,
            computed: 0,
            blocks: Vec::new(),
            names: Vec::new(),
            cached: 0,
            begun: false,
            place,
        }
    }

    /// Tokens that have not been computed yet.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether nobody waits for it any more.
    pub(super) fn abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// The name of its full block number `at`.
    pub(super) fn name(&mut self, at: usize) -> Name {
        while self.names.len() <= at {
            let next = self.names.len();
            let tokens = &self.tokens[next * BLOCK..(next + 1) * BLOCK];
            self.names.push(blocks::name(self.names.last(), tokens));
        }
        self.names[at]
    }

    /// Chooses the next token from the logits after all of the others; says why if there is none after it.
    pub(super) fn go_on(&mut self, logits: &[f32]) -> Option<Ending> {
        if self.tokens.len() == self.prompt {
            self.tell(Event::Read { cached: self.cached });
        }
        let ending = match self.sampler.choose(logits) {
            None => Some(Ending::Damaged),
            Some(token) if self.ends.contains(&token) => Some(Ending::Stop),
            Some(token) => {
                self.tokens.push(token);
                self.tell(Event::Token(token));
                (self.tokens.len() - self.prompt >= self.limit).then_some(Ending::Length)
            }
        };
        if let Some(ending) = ending {
            // Before anybody hears of the end: who then asks again is not to be told that there is no room.
            self.place = None;
            self.tell(Event::Ended(ending));
        }
        ending
    }

    /// Whoever does not listen any more is noticed before the next step.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[test]
    fn the_place_is_free_as_soon_as_the_end_is_told() {
        let (places, (sender, mut receiver)) = (Arc::new(Semaphore::new(1)), unbounded_channel());
        let place = Arc::clone(&places).try_acquire_owned().ok();
        let prompt = Prompt { tokens: vec![1], limit: 2, sampling: Sampling::GREEDY, ends: Vec::new() };
        let mut sequence = Sequence::new(prompt, sender, place);
        assert_eq!((sequence.go_on(&[0.0, 1.0]), places.available_permits()), (None, 0));
        assert_eq!((sequence.go_on(&[0.0, 1.0]), places.available_permits()), (Some(Ending::Length), 1));
        let told: Vec<Event> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!(told.last(), Some(&Event::Ended(Ending::Length)));
    }
}
