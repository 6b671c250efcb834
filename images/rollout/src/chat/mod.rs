//! A client of `/v1/chat/completions` as OpenAI, vLLM, SGLang and llama.cpp speak it: it asks until there is an answer, or a reason why there will be
//! none. What is asked, and what an answer means for a rollout, is decided elsewhere.

mod answer;
mod attempt;
mod body;
mod conversation;
mod copies;
mod error;
mod events;
mod overflow;
mod replicas;
mod wire;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use secrecy::SecretString;
use sera_crds::contract::Silence;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

pub(crate) use answer::{Answer, RawCall};
pub(crate) use conversation::Conversation;
pub(crate) use error::{ChatError, Fault, SetupError};

use attempt::{Attempt, Line};
use replicas::Replicas;

/// How many tokens a word may take, thinking not finished.
const WORD: u32 = 16;

/// How long a teacher is waited for, and how often it is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The longest time one call may take, from sending it to its last token.
    pub(crate) call: Duration,
    /// The longest time between two tokens of an answer that has begun.
    pub(crate) stall: Duration,
    /// How long it may answer nobody before that is told whoever watches.
    pub(crate) silence: Duration,
    /// How often a call that failed for now is tried again.
    pub(crate) retries: usize,
    /// The first pause between two tries; each further one is twice as long, with jitter.
    pub(crate) first_pause: Duration,
    /// The longest pause between two tries.
    pub(crate) longest_pause: Duration,
}

impl Default for Patience {
    /// Eight more tries over a good minute, which outlasts the restart of a load balancer; what takes longer is the Job's to try again. A stream may be
    /// silent for as long as it takes to write a call, of which many servers say nothing before it is whole.
    fn default() -> Self {
        Self {
            call: Duration::from_mins(10),
            stall: Duration::from_mins(5),
            silence: Duration::from_secs(20),
            retries: 8,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// Where the teacher is, and how it is spoken to.
pub(crate) struct Setup {
    /// The base addresses of its replicas (`https://host/v1`); at least one.
    pub(crate) urls: Vec<Url>,
    /// Whether each address that their hosts have is a replica of its own, as with a headless Service.
    pub(crate) by_address: bool,
    /// The model's name.
    pub(crate) model: String,
    /// The key, if it wants one.
    pub(crate) key: Option<SecretString>,
    /// A PEM bundle of CAs to trust beside the public ones.
    pub(crate) ca: Option<String>,
    /// The temperature, a plain decimal.
    pub(crate) temperature: String,
    /// Whether answers are asked for token by token, so that a stall shows.
    pub(crate) streaming: bool,
    pub(crate) patience: Patience,
}

/// One call.
pub(crate) struct Ask<'a> {
    /// What the same replica is asked for again and again, so that its prefix cache helps: the rollout's name.
    pub(crate) key: &'a str,
    pub(crate) conversation: &'a Conversation,
    /// A last user message that does not stay in the conversation.
    pub(crate) aside: Option<&'a str>,
    /// The longest answer, in tokens.
    pub(crate) max_output_tokens: Option<u32>,
    /// What the server is to draw the answer from, where that is not left to it.
    pub(crate) seed: Option<u64>,
    /// When nobody waits for the answer any more.
    pub(crate) until: Instant,
}

/// The teacher: one model behind one or several addresses.
pub(crate) struct Teacher {
    replicas: Replicas,
    model: String,
    temperature: String,
    streaming: bool,
    patience: Patience,
    begun: Instant,
    /// When it last answered, in milliseconds after `begun`, plus one; 0: never.
    answered: AtomicU64,
    retries: AtomicU64,
    /// Whether an answer has said that it is a rehearsal's.
    rehearsal: AtomicBool,
    /// What was wrong the last time that it did not answer; none since it did.
    silence: Mutex<Option<Silence>>,
}

impl Teacher {
    /// Gets ready to ask; nothing is sent yet.
    pub(crate) fn new(setup: Setup) -> Result<Self, SetupError> {
        let line = Line::new(setup.key, setup.ca.as_deref(), &setup.patience)?;
        Ok(Self {
            replicas: Replicas::new(&setup.urls, setup.by_address, line, setup.patience)?,
            model: setup.model,
            temperature: setup.temperature,
            streaming: setup.streaming,
            patience: setup.patience,
            begun: Instant::now(),
            answered: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            rehearsal: AtomicBool::new(false),
            silence: Mutex::default(),
        })
    }

    /// Whether it answers others: it has, since `moment`, or does when it is asked for a word. One that answers nobody is out of order, and no
    /// conversation is to blame.
    pub(crate) async fn answers_others(&self, moment: Instant) -> bool {
        if self.has_answered_since(moment) {
            return true;
        }
        // To refuse is to answer.
        !matches!(
            self.ask_for_a_word(&[], Some(WORD), None).await,
            Err(ChatError::GivenUp { .. } | ChatError::OutOfTime { .. })
        )
    }

    fn has_answered_since(&self, moment: Instant) -> bool {
        let since = moment.saturating_duration_since(self.begun).as_millis();
        u128::from(self.answered.load(Ordering::Relaxed)) > since
    }

    /// Whether it refuses every request with these tools and settings: it has answered nobody yet, and refuses as much as a word with them. Then it
    /// is set up for something else, and no conversation is to blame.
    pub(crate) async fn refuses_everybody(
        &self,
        tools: &[Value],
        max_output_tokens: Option<u32>,
        seed: Option<u64>,
    ) -> bool {
        self.answered.load(Ordering::Relaxed) == 0
            && matches!(self.ask_for_a_word(tools, max_output_tokens, seed).await, Err(ChatError::Rejected { .. }))
    }

    async fn ask_for_a_word(
        &self,
        tools: &[Value],
        max_output_tokens: Option<u32>,
        seed: Option<u64>,
    ) -> Result<Answer, ChatError> {
        let mut conversation = Conversation::new(tools);
        conversation.push_system("You answer in one word.");
        conversation.push_user("Are you there?");
        let until = Instant::now() + self.patience.call;
        let ask = Ask { key: "", conversation: &conversation, aside: None, max_output_tokens, seed, until };
        self.ask(&ask).await
    }

    /// Whether it has said of itself that it is a rehearsal, a program and no model.
    pub(crate) fn is_rehearsal(&self) -> bool {
        self.rehearsal.load(Ordering::Relaxed)
    }

    /// How many calls were tried again so far.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// What is wrong with it, where it was asked and has answered nobody for a while.
    pub(crate) fn silence(&self) -> Option<Silence> {
        let answered = self.begun + Duration::from_millis(self.answered.load(Ordering::Relaxed));
        let silence = *self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        silence.filter(|_| answered.elapsed() >= self.patience.silence)
    }

    /// Notes what a call came to.
    fn note(&self, silence: Option<Silence>) {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = silence;
    }

    /// How many replicas are left alone for now, because they failed several times in a row.
    pub(crate) fn broken_replicas(&self) -> usize {
        self.replicas.broken()
    }

    /// Asks, and asks again where that may help, until there is an answer.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, ChatError> {
        let begun = Instant::now();
        let out_of_time = || ChatError::OutOfTime { since: begun };
        let (mut pauses, mut waited_since) = (self.pauses(), begun);
        let mut tries = 0;
        let mut failed = None;
        loop {
            let replica = self.replicas.admit(ask.key, failed.as_ref(), ask.until).await.ok_or_else(out_of_time)?;
            tries += 1;
            let limit = ask.until.min(Instant::now() + self.patience.call);
            let body = ask.conversation.request(ask.aside, &self.settings(ask));
            let attempt = replica.connection().attempt(replica.url(), body, self.patience.stall);
            let fault = match tokio::time::timeout_at(limit, attempt).await {
                Ok(Attempt::Answered(answer)) => {
                    replica.succeeded();
                    let now = self.begun.elapsed().as_millis();
                    self.answered.store(u64::try_from(now).unwrap_or(u64::MAX).saturating_add(1), Ordering::Relaxed);
                    self.rehearsal.fetch_or(answer.rehearsal, Ordering::Relaxed);
                    self.note(None);
                    return Ok(*answer);
                }
                Ok(Attempt::Refused(error)) => {
                    replica.succeeded();
                    return Err(error);
                }
                Ok(Attempt::Failed(fault)) => fault,
                Err(_) if limit == ask.until => return Err(out_of_time()),
                Err(_) => Fault::Late { limit: self.patience.call },
            };
            self.note(Some(fault.silence()));
            failed = fault.blames_the_replica().then(|| Arc::clone(&replica));
            if failed.is_some() {
                replica.failed();
            }
            let pause = match pauses.next() {
                Some(pause) => pause,
                // It has too many to answer, and has answered some meanwhile: whoever waits has a turn.
                None if fault.is_congestion() && self.has_answered_since(waited_since) => {
                    (pauses, waited_since) = (self.pauses(), Instant::now());
                    self.patience.longest_pause
                }
                None => return Err(ChatError::GivenUp { tries, last: fault, since: begun }),
            };
            // A server that is asked before it wants to be only refuses again.
            let pause = fault.retry_after().map_or(pause, |asked| pause.max(asked));
            if Instant::now().checked_add(pause).is_none_or(|again| again >= ask.until) {
                tracing::warn!(rollout = ask.key, replica = %replica.url(), tries, "there is no time to ask the teacher again: {fault}");
                return Err(out_of_time());
            }
            tracing::warn!(rollout = ask.key, replica = %replica.url(), tries, pause_ms = pause.as_millis(), "the teacher is asked again: {fault}");
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
        }
    }

    fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::default()
            .with_min_delay(self.patience.first_pause)
            .with_max_delay(self.patience.longest_pause)
            .with_factor(2.0)
            .with_max_times(self.patience.retries)
            .with_jitter()
            .build()
    }

    /// What stands before and after the conversation in a request. The part before is the same in every call, so that bytes are as stable as tokens.
    fn settings(&self, ask: &Ask<'_>) -> conversation::Settings<'_> {
        conversation::Settings {
            model: &self.model,
            temperature: &self.temperature,
            streaming: self.streaming,
            max_output_tokens: ask.max_output_tokens,
            seed: ask.seed,
        }
    }
}

#[cfg(test)]
mod tests;
