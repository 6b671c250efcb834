//! A model that answers many prompts at once, on threads of its own: prompts go in, tokens come out as they are computed. The queue is bounded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use rayon::ThreadPoolBuilder;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::attention::block_bytes;
use super::blocks::BLOCK;
use super::forward::{Runner, Span};
use super::scheduler::{Bounds, Piece, Scheduler};
use super::sequence::{Event, Prompt, Sequence};
use super::weights::Weights;

/// How an engine works.
#[derive(Debug, Clone, Copy)]
pub struct EngineSettings {
    /// The most tokens that a prompt and its answer may have together.
    pub context: usize,
    /// Memory for keys and values, in bytes.
    pub cache: u64,
    /// The most prompts that are answered at a time.
    pub batch: usize,
    /// The most that wait beside them.
    pub queue: usize,
    /// The most tokens of prompts that are read in one step.
    pub chunk: usize,
    /// How many threads compute.
    pub threads: usize,
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Not even one prompt would fit.
    #[error(
        "keys and values of {context} tokens take {needed} bytes, and the cache has {cache}: give it more memory, or allow fewer tokens"
    )]
    Cache {
        /// The most tokens that are allowed.
        context: usize,
        /// What they take.
        needed: u64,
        /// What there is.
        cache: u64,
    },
    /// No threads.
    #[error("the threads that compute cannot be started: {0}")]
    Threads(String),
}

/// Why a prompt is not answered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RefusedPrompt {
    /// As many are under way as may be.
    #[error("as many requests as may wait are waiting; try again later")]
    Full,
    /// The engine has ended.
    #[error("the model does not answer any more")]
    Gone,
    /// There is nothing to go on from, or nothing to add.
    #[error("a prompt needs a token to go on from, and an answer at least one")]
    Empty,
    /// A token that the embedding has no row for.
    #[error("token {id} of the prompt is not below the vocabulary of {vocabulary}: is the tokenizer this model's?")]
    Token {
        /// The token.
        id: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// More tokens than are allowed.
    #[error("the prompt has {prompt} tokens and the answer up to {limit}, which is more than {context} together")]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// The most tokens of the answer.
        limit: usize,
        /// What is allowed.
        context: usize,
    },
}

/// What an engine has done and is at, for whoever watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineState {
    /// Prompts that are being answered.
    pub running: u64,
    /// Prompts that wait.
    pub waiting: u64,
    /// Blocks of the cache that somebody uses.
    pub blocks_used: u64,
    /// All blocks.
    pub blocks: u64,
    /// Blocks that lost what they held to make room.
    pub evicted: u64,
    /// Answers that had to begin anew because there was no room.
    pub preempted: u64,
    /// Steps so far.
    pub steps: u64,
    /// Prompts that had a part in a step, summed over all steps: divided by `steps`, the batch's mean size.
    pub batched: u64,
    /// Tokens computed, of prompts and of answers.
    pub computed: u64,
}

/// A model that answers. It ends with the value, once nobody waits for an answer.
#[derive(Debug)]
pub struct Engine {
    submissions: Sender<Sequence>,
    /// A place for each that may be under way.
    places: Arc<Semaphore>,
    state: Arc<RwLock<EngineState>>,
    waiting: Arc<AtomicU64>,
    thread: JoinHandle<()>,
    vocabulary: usize,
    context: usize,
}

impl Engine {
    /// Starts the threads. `settings.cache` has to hold one prompt and answer of `settings.context` tokens at least.
    pub fn start(weights: Weights, settings: &EngineSettings) -> Result<Self, EngineError> {
        let EngineSettings { context, cache, batch, queue, chunk, threads } = *settings;
        let block = block_bytes(weights.config());
        let blocks = u32::try_from(cache / block).unwrap_or(u32::MAX);
        let needed = context.div_ceil(BLOCK);
        if (blocks as usize) < needed {
            return Err(EngineError::Cache { context, needed: needed as u64 * block, cache });
        }
        let failed = |error: &dyn std::fmt::Display| EngineError::Threads(error.to_string());
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|at| format!("compute-{at}"));
        let pool = pool.build().map_err(|error| failed(&error))?;
        let vocabulary = weights.config().vocabulary;
        let (submissions, submitted) = channel();
        let (state, waiting) = (Arc::<RwLock<EngineState>>::default(), Arc::<AtomicU64>::default());
        let mut worker = Worker {
            runner: Runner::new(weights, blocks),
            scheduler: Scheduler::new(Bounds { batch, chunk }, blocks),
            submitted,
            waiting: Arc::clone(&waiting),
            state: Arc::clone(&state),
        };
        let thread = std::thread::Builder::new().name("engine".to_owned());
        let thread = thread.spawn(move || pool.install(|| worker.run())).map_err(|error| failed(&error))?;
        let places = Arc::new(Semaphore::new((batch + queue).min(Semaphore::MAX_PERMITS)));
        Ok(Self { submissions, places, state, waiting, thread, vocabulary, context })
    }

    /// Queues a prompt. What becomes of it comes through the channel; whoever drops it hangs up, and frees what it took.
    pub fn submit(&self, prompt: Prompt) -> Result<UnboundedReceiver<Event>, RefusedPrompt> {
        self.check(&prompt)?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| RefusedPrompt::Full)?;
        let (sender, receiver) = unbounded_channel();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.submissions.send(Sequence::new(prompt, sender, Some(place))).map_err(|_| RefusedPrompt::Gone)?;
        Ok(receiver)
    }

    /// Whether it can answer.
    pub fn alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// What it has done and is at.
    pub fn state(&self) -> EngineState {
        let mut state = *self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.waiting += self.waiting.load(Ordering::Relaxed);
        state
    }

    fn check(&self, prompt: &Prompt) -> Result<(), RefusedPrompt> {
        let (vocabulary, context) = (self.vocabulary, self.context);
        if prompt.tokens.is_empty() || prompt.limit == 0 {
            return Err(RefusedPrompt::Empty);
        }
        if let Some(id) = prompt.tokens.iter().find(|id| **id as usize >= vocabulary) {
            return Err(RefusedPrompt::Token { id: *id, vocabulary });
        }
        if prompt.tokens.len().saturating_add(prompt.limit) > context {
            return Err(RefusedPrompt::TooLong { prompt: prompt.tokens.len(), limit: prompt.limit, context });
        }
        Ok(())
    }
}

struct Worker {
    runner: Runner,
    scheduler: Scheduler,
    submitted: Receiver<Sequence>,
    /// How many have been submitted and not been taken yet.
    waiting: Arc<AtomicU64>,
    state: Arc<RwLock<EngineState>>,
}

impl Worker {
    /// Computes until nobody can submit any more and nothing is left.
    fn run(&mut self) {
        while self.take_submitted() {
            let pieces = self.scheduler.plan();
            if !pieces.is_empty() {
                self.step(&pieces);
            }
            self.report(&pieces);
        }
    }

    /// Takes what has been submitted, and waits for something if there is nothing to do; says whether to go on.
    fn take_submitted(&mut self) -> bool {
        if self.scheduler.idle() {
            match self.submitted.recv() {
                Ok(sequence) => self.add(sequence),
                Err(_) => return false,
            }
        }
        while let Ok(sequence) = self.submitted.try_recv() {
            self.add(sequence);
        }
        true
    }

    fn add(&mut self, sequence: Sequence) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.scheduler.add(sequence);
    }

    fn step(&mut self, pieces: &[Piece]) {
        let spans = pieces.iter().map(|piece| {
            let sequence = &self.scheduler.running[piece.at];
            let end = sequence.computed + piece.count;
            Span {
                tokens: &sequence.tokens[sequence.computed..end],
                start: sequence.computed,
                blocks: &sequence.blocks,
                wanted: end == sequence.tokens.len(),
            }
        });
        let mut logits = self.runner.forward(&spans.collect::<Vec<_>>()).into_iter();
        let mut ended = Vec::new();
        for piece in pieces {
            if !self.scheduler.computed(*piece) {
                continue;
            }
            let Some(logits) = logits.next() else { continue };
            if self.scheduler.running[piece.at].go_on(&logits).is_some() {
                ended.push(piece.at);
            }
        }
        self.scheduler.remove(&ended);
    }

    fn report(&self, pieces: &[Piece]) {
        let scheduler = &self.scheduler;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.running = scheduler.running.len() as u64;
        state.waiting = scheduler.waiting() as u64;
        state.blocks = scheduler.blocks.count() as u64;
        state.blocks_used = state.blocks - scheduler.blocks.available() as u64;
        (state.evicted, state.preempted) = (scheduler.blocks.evicted(), scheduler.preempted());
        state.steps += u64::from(!pieces.is_empty());
        state.batched += pieces.len() as u64;
        state.computed += pieces.iter().map(|piece| piece.count as u64).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use candle_core::Error;

    use super::super::sampling::Sampling;
    use super::super::sequence::Ending;
    use super::*;
    use crate::inference::Kept;
    use crate::model::testing::{config, tensors};

    const SETTINGS: EngineSettings =
        EngineSettings { context: 64, cache: 1 << 16, batch: 3, queue: 2, chunk: 16, threads: 2 };

    fn weights() -> Weights {
        let config = config("qwen3", true);
        let tensors = tensors(&config);
        Weights::load(&config, Kept::F32, |name| Ok::<_, Error>(tensors[name].clone())).unwrap()
    }

    fn prompt(tokens: Vec<u32>, limit: usize) -> Prompt {
        Prompt { tokens, limit, sampling: Sampling { temperature: 1.0, top_p: 0.9, seed: 5 }, ends: Vec::new() }
    }

    fn answer(mut events: UnboundedReceiver<Event>) -> Vec<u32> {
        let mut tokens = Vec::new();
        loop {
            match events.blocking_recv().expect("it ends with an ending") {
                Event::Token(token) => tokens.push(token),
                Event::Ended(ending) => {
                    assert_eq!(ending, Ending::Length);
                    return tokens;
                }
                Event::Read { .. } => {}
            }
        }
    }

    #[test]
    fn many_at_once_are_answered_as_each_is_alone() {
        let prompts: Vec<_> = (0..5).map(|seed| (0..20 + seed).map(|at| at * at % 13).collect::<Vec<u32>>()).collect();
        let alone: Vec<_> = prompts
            .iter()
            .map(|tokens| {
                let engine = Engine::start(weights(), &SETTINGS).unwrap();
                answer(engine.submit(prompt(tokens.clone(), 30)).unwrap())
            })
            .collect();
        // So little room that they have to give way to each other.
        let block = block_bytes(weights().config());
        let engine = Engine::start(weights(), &EngineSettings { cache: 6 * block, ..SETTINGS }).unwrap();
        let together: Vec<_> =
            prompts.iter().map(|tokens| engine.submit(prompt(tokens.clone(), 30)).unwrap()).collect();
        assert_eq!(together.into_iter().map(answer).collect::<Vec<_>>(), alone);
        assert!(engine.state().preempted > 0);
    }

    #[test]
    fn more_than_may_wait_are_refused_and_hanging_up_makes_room() {
        let engine = Engine::start(weights(), &EngineSettings { context: 4096, cache: 1 << 22, ..SETTINGS }).unwrap();
        let taken: Vec<_> = (0..5).map(|_| engine.submit(prompt(vec![1, 2], 4000)).unwrap()).collect();
        assert_eq!(engine.submit(prompt(vec![1], 1)).unwrap_err(), RefusedPrompt::Full);
        drop(taken);
        let again = std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(20));
            engine.submit(prompt(vec![1], 1))
        });
        assert_eq!(again.take(500).find_map(Result::ok).map(answer).map(|tokens| tokens.len()), Some(1));
    }

    #[test]
    fn what_waits_is_not_made_to_wait_for_more() {
        let (_submissions, submitted) = channel();
        let (sender, _receiver) = unbounded_channel();
        let mut scheduler = Scheduler::new(Bounds { batch: 1, chunk: 16 }, 4);
        scheduler.add(Sequence::new(prompt(vec![1], 1), sender, None));
        let runner = Runner::new(weights(), 4);
        let (waiting, state) = (Arc::default(), Arc::default());
        let mut worker = Worker { runner, scheduler, submitted, waiting, state };
        let took = (0..20).map(|_| {
            let began = Instant::now();
            assert!(worker.take_submitted());
            began.elapsed()
        });
        assert!(took.min() < Some(Duration::from_millis(5)), "it waits each time");
    }

    #[test]
    fn what_cannot_be_answered_is_refused_by_its_reason() {
        let engine = Engine::start(weights(), &SETTINGS).unwrap();
        let refusal = |tokens: Vec<u32>, limit| engine.submit(prompt(tokens, limit)).unwrap_err();
        assert_eq!((refusal(vec![], 1), refusal(vec![1], 0)), (RefusedPrompt::Empty, RefusedPrompt::Empty));
        assert_eq!(refusal(vec![1, 13], 1), RefusedPrompt::Token { id: 13, vocabulary: 13 });
        assert_eq!(refusal(vec![1; 60], 5), RefusedPrompt::TooLong { prompt: 60, limit: 5, context: 64 });
        let small = Engine::start(weights(), &EngineSettings { cache: 1000, ..SETTINGS });
        assert!(matches!(small, Err(EngineError::Cache { context: 64, cache: 1000, .. })));
    }
}
