//! Which sequences are computed in a step, and how much of each: those that are being answered by a token each, and of prompts so much that the others
//! do not have to wait long. Requests join when there is room and leave when they end; where blocks run out, the youngest gives way and begins anew.

use std::collections::VecDeque;

use super::blocks::{BLOCK, Blocks};
use super::sequence::Sequence;

/// How much is computed at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most sequences at a time.
    pub(super) batch: usize,
    /// The most tokens of prompts in one step.
    pub(super) chunk: usize,
}

/// Part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The place of its sequence in [`Scheduler::running`].
    pub(super) at: usize,
    /// How many of its tokens are computed.
    pub(super) count: usize,
}

#[derive(Debug)]
pub(super) struct Scheduler {
    bounds: Bounds,
    pub(super) blocks: Blocks,
    waiting: VecDeque<Sequence>,
    /// In the order in which they came.
    pub(super) running: Vec<Sequence>,
    preempted: u64,
}

impl Scheduler {
    pub(super) fn new(bounds: Bounds, blocks: u32) -> Self {
        Self { bounds, blocks: Blocks::new(blocks), waiting: VecDeque::new(), running: Vec::new(), preempted: 0 }
    }

    /// Queues a sequence. The whole of it, answer included, has to fit the cache when it is alone.
    pub(super) fn add(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many had to begin anew because there was no room.
    pub(super) fn preempted(&self) -> u64 {
        self.preempted
    }

    /// Whether there is nothing to do.
    pub(super) fn idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// What the next step computes, with blocks for all of it.
    pub(super) fn plan(&mut self) -> Vec<Piece> {
        self.drop_abandoned();
        let mut left = self.bounds.chunk;
        let mut pieces = Vec::new();
        let (mut at, preempted) = (0, self.preempted);
        // What just gave way is not let in again at once.
        while at < self.running.len() || (preempted == self.preempted && self.admit(left)) {
            pieces.extend(self.piece(at, &mut left));
            at += 1;
        }
        pieces
    }

    /// Takes note that a piece was computed: blocks that it has filled can be shared from now on. Whether the sequence's logits are those of its end.
    pub(super) fn computed(&mut self, piece: Piece) -> bool {
        let sequence = &mut self.running[piece.at];
        let full = sequence.computed / BLOCK;
        sequence.computed += piece.count;
        sequence.begun = true;
        for block in full..sequence.computed / BLOCK {
            let name = sequence.name(block);
            self.blocks.give_name(sequence.blocks[block], name);
        }
        sequence.pending() == 0
    }

    /// Lets the sequences at these places, in ascending order, go.
    pub(super) fn remove(&mut self, places: &[usize]) {
        for at in places.iter().rev() {
            let sequence = self.running.remove(*at);
            self.blocks.release(&sequence.blocks);
        }
    }

    fn drop_abandoned(&mut self) {
        self.waiting.retain(|sequence| !sequence.abandoned());
        let gone = |(at, sequence): (usize, &Sequence)| sequence.abandoned().then_some(at);
        let gone: Vec<usize> = self.running.iter().enumerate().filter_map(gone).collect();
        self.remove(&gone);
    }

    /// Lets the next one in, if there is room for it and it can begin in this step.
    fn admit(&mut self, left: usize) -> bool {
        let Some(next) = self.waiting.front() else { return false };
        let needed = next.tokens.len().div_ceil(BLOCK);
        let room = self.blocks.available() >= needed || self.running.is_empty();
        if left == 0 || !room || self.running.len() >= self.bounds.batch {
            return false;
        }
        self.running.extend(self.waiting.pop_front());
        true
    }

    /// The part of the sequence at `at` in this step; `left` tokens of prompts may still be in it.
    fn piece(&mut self, at: usize, left: &mut usize) -> Option<Piece> {
        self.adopt(at);
        let pending = self.running[at].pending();
        let answering = pending == 1;
        let count = if answering { 1 } else { pending.min(*left) };
        if count == 0 || !self.make_room(at, count) {
            return None;
        }
        if !answering {
            *left -= count;
        }
        Some(Piece { at, count })
    }

    /// Takes what the cache has of the tokens that come next. The last token is computed in any case: its logits are not in the cache.
    fn adopt(&mut self, at: usize) {
        let sequence = &mut self.running[at];
        while sequence.computed == sequence.blocks.len() * BLOCK && sequence.pending() > BLOCK {
            let name = sequence.name(sequence.blocks.len());
            let Some(block) = self.blocks.share(&name) else { return };
            sequence.blocks.push(block);
            sequence.computed += BLOCK;
            if !sequence.begun {
                sequence.cached += BLOCK;
            }
        }
    }

    /// Blocks for `count` more tokens of the sequence at `at`; younger ones give way to it, and it gives way itself where that is not enough.
    fn make_room(&mut self, at: usize, count: usize) -> bool {
        let needed = (self.running[at].computed + count).div_ceil(BLOCK);
        while self.running[at].blocks.len() < needed {
            if let Some(block) = self.blocks.take() {
                self.running[at].blocks.push(block);
                continue;
            }
            let youngest = self.running.len() - 1;
            self.preempt();
            if youngest == at {
                return false;
            }
        }
        true
    }

    /// The youngest waits again, before all others, for its tokens to be computed anew.
    fn preempt(&mut self) {
        let Some(mut sequence) = self.running.pop() else { return };
        self.blocks.release(&sequence.blocks);
        sequence.blocks.clear();
        sequence.computed = 0;
        self.preempted += 1;
        self.waiting.push_front(sequence);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::sampling::Sampling;
    use super::super::sequence::{Ending, Event, Prompt};
    use super::*;

    /// Logits that make `token` the most likely one.
    fn logits(token: u32) -> Vec<f32> {
        (0..100).map(|at| if at == token { 1.0 } else { 0.0 }).collect()
    }

    fn scheduler(batch: usize, chunk: usize, blocks: u32) -> Scheduler {
        Scheduler::new(Bounds { batch, chunk }, blocks)
    }

    fn add(scheduler: &mut Scheduler, tokens: std::ops::Range<u32>, limit: usize) -> UnboundedReceiver<Event> {
        let (sender, receiver) = unbounded_channel();
        let prompt = Prompt { tokens: tokens.collect(), limit, sampling: Sampling::GREEDY, ends: vec![99] };
        scheduler.add(Sequence::new(prompt, sender, None));
        receiver
    }

    /// A step in which every sequence that is computed to its end goes on with token 7; how many tokens each piece had.
    fn step(scheduler: &mut Scheduler) -> Vec<usize> {
        let pieces = scheduler.plan();
        let mut done = Vec::new();
        for piece in &pieces {
            if scheduler.computed(*piece) && scheduler.running[piece.at].go_on(&logits(7)).is_some() {
                done.push(piece.at);
            }
        }
        scheduler.remove(&done);
        pieces.iter().map(|piece| piece.count).collect()
    }

    fn events(receiver: &mut UnboundedReceiver<Event>) -> Vec<Event> {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn a_long_prompt_is_read_in_chunks_while_others_are_answered() {
        let mut scheduler = scheduler(4, 32, 100);
        let _short = add(&mut scheduler, 0..5, 10);
        assert_eq!(step(&mut scheduler), [5]);
        let _long = add(&mut scheduler, 0..70, 10);
        assert_eq!(step(&mut scheduler), [1, 32]);
        assert_eq!(step(&mut scheduler), [1, 32]);
        assert_eq!(step(&mut scheduler), [1, 6]);
        assert_eq!(step(&mut scheduler), [1, 1]);
    }

    #[test]
    fn requests_join_and_leave_at_every_step() {
        let mut scheduler = scheduler(2, 64, 100);
        let mut receivers: Vec<_> = (1..4).map(|limit| add(&mut scheduler, 0..3, limit)).collect();
        assert_eq!(step(&mut scheduler), [3, 3]);
        assert_eq!(scheduler.waiting(), 1, "two at a time");
        assert_eq!(step(&mut scheduler), [1, 3], "the first has ended, the third begins");
        assert_eq!((step(&mut scheduler), step(&mut scheduler)), (vec![1], vec![1]));
        assert!(scheduler.idle());
        for (receiver, limit) in receivers.iter_mut().zip(1..) {
            let mut expected = vec![Event::Read { cached: 0 }];
            expected.extend(std::iter::repeat_n(Event::Token(7), limit));
            expected.push(Event::Ended(Ending::Length));
            assert_eq!(events(receiver), expected);
        }
        assert_eq!(scheduler.blocks.available(), 100);
    }

    #[test]
    fn a_shared_beginning_is_computed_once() {
        let mut scheduler = scheduler(4, 256, 100);
        let _first = add(&mut scheduler, 0..40, 1);
        assert_eq!(step(&mut scheduler), [40]);
        let mut second = add(&mut scheduler, 0..48, 1);
        assert_eq!(step(&mut scheduler), [16], "two full blocks of three are there");
        assert_eq!(events(&mut second)[0], Event::Read { cached: 32 });
        let mut third = add(&mut scheduler, 0..48, 1);
        assert_eq!(step(&mut scheduler), [16], "all are there, and the last token has to be computed");
        assert_eq!(events(&mut third)[0], Event::Read { cached: 32 });
    }

    #[test]
    fn what_one_has_read_already_another_takes_over_while_both_run() {
        let mut scheduler = scheduler(4, 64, 100);
        let _first = add(&mut scheduler, 0..200, 1);
        assert_eq!(step(&mut scheduler), [64]);
        let _second = add(&mut scheduler, 0..200, 1);
        assert_eq!(step(&mut scheduler), [64]);
        assert_eq!(step(&mut scheduler), [64]);
        assert_eq!(step(&mut scheduler), [8, 8], "the second has followed the first through the cache");
    }

    #[test]
    fn where_blocks_run_out_the_youngest_begins_anew_and_loses_nothing() {
        let mut scheduler = scheduler(4, 256, 4);
        let mut first = add(&mut scheduler, 0..30, 20);
        let mut second = add(&mut scheduler, 40..70, 20);
        for _ in 0..200 {
            step(&mut scheduler);
        }
        assert!(scheduler.idle() && scheduler.preempted() > 0);
        for receiver in [&mut first, &mut second] {
            let events = events(receiver);
            assert_eq!(events.iter().filter(|event| **event == Event::Token(7)).count(), 20);
            assert_eq!(events.iter().filter(|event| **event == Event::Read { cached: 0 }).count(), 1);
            assert_eq!(events.last(), Some(&Event::Ended(Ending::Length)));
        }
        assert_eq!(scheduler.blocks.available(), 4);
    }

    #[test]
    fn whoever_hangs_up_frees_the_slot_and_the_blocks() {
        let mut scheduler = scheduler(1, 256, 10);
        let first = add(&mut scheduler, 0..30, 20);
        let second = add(&mut scheduler, 0..30, 20);
        let _third = add(&mut scheduler, 50..60, 20);
        step(&mut scheduler);
        drop((first, second));
        assert_eq!(step(&mut scheduler), [10], "the one that waits has gone too");
        assert_eq!(scheduler.blocks.available(), 9);
    }

    #[test]
    fn an_end_token_and_damaged_logits_end_it() {
        for (logits, ending) in [(logits(99), Ending::Stop), (vec![f32::NAN; 100], Ending::Damaged)] {
            let mut scheduler = scheduler(1, 256, 10);
            let mut receiver = add(&mut scheduler, 0..3, 20);
            let piece = scheduler.plan()[0];
            assert!(scheduler.computed(piece));
            assert_eq!(scheduler.running[0].go_on(&logits), Some(ending));
            assert_eq!(events(&mut receiver), [Event::Read { cached: 0 }, Event::Ended(ending)]);
        }
    }
}
