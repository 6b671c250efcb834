//! The model behind the server: loaded with a cache that fits the machine, and asked in its own words, which its chat template writes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sera_chat::{Chat, Conversation};
use sera_crds::contract::ExitCode;
use sera_trainer::inference::{
    BLOCK, Engine, EngineError, EngineSettings, EngineState, Event, Kept, Prompt, RefusedPrompt, Sampling, Source,
    SourceError, Weights, block_bytes,
};
use sera_trainer::training::available_memory;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::request::ChatRequest;
use crate::http::Refusal;

/// How many whole contexts the cache holds where nobody says how large it is, memory permitting: agents seldom fill theirs, and share beginnings.
const CONTEXTS: u64 = 4;

/// The share of the memory that weights leave which the cache takes at most where nobody says how large it is.
const SHARE: u64 = 2;

/// The context of a model that does not say how long its own is.
const CONTEXT: usize = 4096;

/// How a model is served.
#[derive(Debug, Clone)]
pub(crate) struct ModelSettings {
    /// The most tokens of a prompt and its answer; the model's own context, if nobody says.
    pub(crate) context: Option<usize>,
    /// Bytes for keys and values; what is sensible here, if nobody says.
    pub(crate) cache: Option<u64>,
    /// What weights are kept in; what loses nothing, if nobody says.
    pub(crate) kept: Option<Kept>,
    pub(crate) batch: usize,
    pub(crate) queue: usize,
    pub(crate) chunk: usize,
    pub(crate) threads: usize,
    /// What requests without a seed draw from.
    pub(crate) seed: u64,
}

/// Why a model is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{0} (--kv-cache-memory, --max-model-len)")]
    Engine(#[from] EngineError),
    #[error(
        "--max-model-len {asked} is more than the {trained} tokens of context that the model was trained with; ask for at most that"
    )]
    Context { asked: usize, trained: usize },
}

impl ModelError {
    /// Whose turn it is.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Source(error) => error.exit_code(),
            Self::Engine(EngineError::Cache { .. }) | Self::Context { .. } => ExitCode::Configuration,
            Self::Engine(EngineError::Threads(_)) => ExitCode::Internal,
        }
    }
}

/// A model that answers.
#[derive(Debug)]
pub(crate) struct Model {
    chat: Arc<Chat>,
    engine: Engine,
    ends: Vec<u32>,
    context: usize,
    /// Whether its template shows it the tools that it is offered.
    knows_tools: bool,
    seed: u64,
    asked: AtomicU64,
}

/// A request that is on its way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) chat: Arc<Chat>,
    pub(super) events: UnboundedReceiver<Event>,
    pub(super) prompt_end: String,
    pub(super) prompt_tokens: usize,
    /// The how manieth it is.
    pub(super) number: u64,
}

impl Model {
    /// Loads a model, and starts its threads.
    pub(crate) fn load(path: &Path, settings: &ModelSettings) -> Result<Self, ModelError> {
        let source = Source::open(path)?;
        let trained = source.generation().context;
        let context = match (settings.context, trained) {
            (Some(asked), Some(trained)) if asked > trained => return Err(ModelError::Context { asked, trained }),
            (asked, trained) => asked.or(trained).unwrap_or(CONTEXT),
        };
        let ends = source.generation().ends.clone();
        let kept = settings.kept.unwrap_or_else(|| source.kept());
        let (weights, chat) = source.load(kept)?;
        let cache = settings.cache.unwrap_or_else(|| sensible_cache(&weights, context, available_memory(1)));
        let &ModelSettings { batch, queue, chunk, threads, .. } = settings;
        let engine = Engine::start(weights, &EngineSettings { context, cache, batch, queue, chunk, threads })?;
        let knows_tools = knows_tools(&chat);
        tracing::info!(
            model = %path.display(), context, cache_bytes = cache, ?kept, threads, tools = knows_tools, "the model answers"
        );
        let (chat, asked) = (Arc::new(chat), AtomicU64::new(0));
        Ok(Self { chat, engine, ends, context, knows_tools, seed: settings.seed, asked })
    }

    /// The most tokens that a prompt and its answer may have together.
    pub(super) fn context(&self) -> usize {
        self.context
    }

    /// What the engine is at.
    pub(super) fn state(&self) -> EngineState {
        self.engine.state()
    }

    /// Whether it can answer.
    pub(super) fn alive(&self) -> bool {
        self.engine.alive()
    }

    /// Asks the model.
    pub(super) fn ask(&self, request: &ChatRequest) -> Result<Asked, Refusal> {
        let text = self.render(request)?;
        let tokens = self.chat.encode(&text).map_err(|error| Refusal::field("messages", error.to_string()))?;
        let prompt_tokens = tokens.len();
        let limit = self.limit(prompt_tokens, request.limit)?;
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let seed = request.seed.unwrap_or_else(|| self.seed.wrapping_add(number));
        let sampling = Sampling { temperature: request.temperature, top_p: request.top_p, seed };
        let prompt = Prompt { tokens, limit, sampling, ends: self.ends.clone() };
        let events = self.engine.submit(prompt).map_err(|refused| refusal(&refused))?;
        Ok(Asked { chat: Arc::clone(&self.chat), events, prompt_end: last_line(&text), prompt_tokens, number })
    }

    /// What the model reads.
    fn render(&self, request: &ChatRequest) -> Result<String, Refusal> {
        let mut conversation = Conversation::new(&request.messages);
        if !request.tools.is_empty() {
            if !self.knows_tools {
                let message = "the model's chat template does not show tools; leave `tools` out, or serve a model that has learnt to call them";
                return Err(Refusal::field("tools", message));
            }
            conversation = conversation.with_tools(&request.tools);
        }
        for (name, value) in &request.variables {
            conversation = conversation.with_variable(name, value);
        }
        let rendered = self.chat.render(&conversation, true);
        rendered.map_err(|error| {
            Refusal::field("messages", format!("`messages` do not fit the model's chat template: {error}"))
        })
    }

    /// The most tokens of the answer, so that it fits with its prompt.
    fn limit(&self, prompt: usize, asked: Option<usize>) -> Result<usize, Refusal> {
        let context = self.context;
        let left = context.saturating_sub(prompt);
        match asked {
            _ if left == 0 => Err(Refusal::too_long(format!(
                "the maximum context length is {context} tokens, and the messages have {prompt}: shorten them"
            ))),
            Some(asked) if asked > left => Err(Refusal::too_long(format!(
                "the maximum context length is {context} tokens, and {prompt} of the messages and {asked} of the answer are more: shorten the messages, or ask for at most {left}"
            ))),
            asked => Ok(asked.unwrap_or(left)),
        }
    }
}

/// The end of a text, from its last line break but one: where a template may have begun to think.
fn last_line(text: &str) -> String {
    let kept = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
    text[kept..].to_owned()
}

/// Bytes for keys and values, where nobody says.
fn sensible_cache(weights: &Weights, context: usize, memory: Option<u64>) -> u64 {
    let one = context.div_ceil(BLOCK) as u64 * block_bytes(weights.config());
    let left = memory.map_or(u64::MAX, |memory| memory.saturating_sub(weights.bytes()) / SHARE);
    (CONTEXTS * one).min(left).max(one.min(left))
}

/// Whether tools change what the model reads.
fn knows_tools(chat: &Chat) -> bool {
    let conversation = Conversation::new(&[json!({"role": "user", "content": "-"})]);
    let tool = json!({"type": "function", "function": {"name": "look", "description": "-", "parameters": {"type": "object", "properties": {}}}});
    let with = chat.render(&conversation.clone().with_tools(&[tool]), true);
    matches!((chat.render(&conversation, true), with), (Ok(without), Ok(with)) if without != with)
}

fn refusal(refused: &RefusedPrompt) -> Refusal {
    let message = refused.to_string();
    match refused {
        RefusedPrompt::Full => Refusal::overloaded(&message, super::SOON),
        RefusedPrompt::Gone => Refusal::broken(&message),
        RefusedPrompt::TooLong { .. } => Refusal::too_long(message),
        RefusedPrompt::Empty | RefusedPrompt::Token { .. } => Refusal::field("messages", message),
    }
}
