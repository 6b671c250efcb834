//! The server: who asks for what at which address, and how an answer gets on its way.

mod faults;
mod metrics;
mod transport;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::agent::{Answer, Asked, Behaviour, Teacher};
use crate::cache::PrefixCache;
use crate::http::{LONGEST_REQUEST, Refusal, json_response, metrics_response, now};
use crate::protocol::{ChatRequest, Completion, Finish, MARK, MODEL, Models, TokenCounts, WireMessage};
use crate::tokens;
use metrics::Metrics;

pub(crate) use faults::{Fault, FaultRate, Faults};

/// How the server behaves.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) behaviour: Behaviour,
    /// How many tokens a conversation may have.
    pub(crate) context_length: u64,
    /// How many beginnings of conversations the prefix cache holds.
    pub(crate) cache_entries: usize,
    /// How long every answer takes.
    pub(crate) latency: Duration,
    pub(crate) faults: Faults,
}

struct Server {
    settings: Settings,
    teacher: Teacher,
    cache: PrefixCache,
    metrics: Metrics,
}

/// Answers until `stop` is done.
pub(crate) async fn serve(
    listener: TcpListener,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let server = Arc::new(Server {
        teacher: Teacher::new(settings.behaviour),
        cache: PrefixCache::new(settings.cache_entries),
        metrics: Metrics::new().map_err(std::io::Error::other)?,
        settings,
    });
    let router = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/models", get(models))
        .route("/health", get(|| async { "ok" }))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(LONGEST_REQUEST))
        .layer(axum::middleware::map_response(marked))
        .with_state(server);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

/// Every response says what it is from, errors of the router included.
async fn marked(mut response: Response) -> Response {
    response.headers_mut().insert(MARK, HeaderValue::from_static("true"));
    response
}

async fn models(State(server): State<Arc<Server>>) -> Response {
    json_response(StatusCode::OK, &Models::json(server.settings.context_length))
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    metrics_response(server.metrics.text())
}

async fn complete(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    let began = Instant::now();
    match server.complete(&body, began).await {
        Ok(response) => response,
        Err(refusal) => {
            server.metrics.refused(refusal.status.as_u16());
            let mut body = refusal.body();
            body[MARK] = true.into();
            refusal.response(&body)
        }
    }
}

impl Server {
    async fn complete(&self, body: &[u8], began: Instant) -> Result<Response, Refusal> {
        let request = Self::read(body)?;
        let lookup = self.cache.look_up(&request);
        if lookup.prompt > self.settings.context_length {
            let message = format!(
                "the maximum context length is {} tokens, and the messages have {}: shorten them",
                self.settings.context_length, lookup.prompt
            );
            return Err(Refusal::too_long(message));
        }
        let (request, asked, answer) = self.answer(request).await?;
        let fault = self.settings.faults.draw(&request, &asked);
        if let Some(fault) = fault {
            self.metrics.fault(fault);
        }
        tokio::time::sleep(self.settings.latency).await;
        match fault {
            Some(Fault::Latency) => tokio::time::sleep(self.settings.faults.latency()).await,
            Some(Fault::RateLimit) => {
                return Err(Refusal::overloaded("too many requests: a fault that was asked for", 1));
            }
            Some(Fault::ServerError) => return Err(Refusal::broken("the server failed: a fault that was asked for")),
            _ => {}
        }
        let spare = || self.teacher.spare_call(&request);
        let (answer, finish) =
            within(&request, fault.map_or_else(|| whole(answer.clone()), |fault| fault.spoil(answer.clone(), spare)));
        let said = message(&answer);
        let counts =
            TokenCounts { prompt: lookup.prompt, cached: lookup.cached, completion: tokens::of_message(&said) };
        self.cache.answered(&lookup, &said);
        self.metrics.answered(asked.label(), counts, began.elapsed());
        tracing::debug!(asked = asked.label(), ?counts, ?fault, "answered");
        let completion = Completion { id: id(&request, &asked), created: now(), answer, finish, counts };
        Ok(transport::respond(&request, &completion, fault))
    }

    /// Makes the answer beside the threads that serve: a long conversation takes milliseconds, and one that trips the program harms no other.
    async fn answer(&self, request: ChatRequest) -> Result<(ChatRequest, Asked, Answer), Refusal> {
        let teacher = self.teacher;
        let answering = tokio::task::spawn_blocking(move || {
            let (asked, answer) = teacher.answer(&request);
            (request, asked, answer)
        });
        answering.await.map_err(|error| {
            tracing::error!("no answer could be made: {error}");
            Refusal::broken("the rehearsal teacher failed on this conversation: a mistake in the program")
        })
    }

    fn read(body: &[u8]) -> Result<ChatRequest, Refusal> {
        let invalid = |message: String| Refusal::invalid("invalid_request", message);
        let request: ChatRequest =
            serde_json::from_slice(body).map_err(|error| invalid(format!("the request cannot be read: {error}")))?;
        if request.model != MODEL {
            let known = format!("this is the rehearsal teacher, which answers to \"{MODEL}\" alone");
            return Err(Refusal::no_model(&request.model, &known));
        }
        if request.messages.is_empty() {
            return Err(invalid("the request has no messages".to_owned()));
        }
        Ok(request)
    }
}

/// The answer as far as the request lets it be.
fn within(request: &ChatRequest, (mut answer, mut finish): (Answer, Finish)) -> (Answer, Finish) {
    if let Some(limit) = request.limit()
        && tokens::of_message(&message(&answer)) > limit
    {
        // Thinking comes first, then the text, then the calls: a cut takes the calls before anything else.
        let characters = usize::try_from(limit.saturating_mul(4)).unwrap_or(usize::MAX);
        answer.calls.clear();
        answer.thinking = answer.thinking.chars().take(characters).collect();
        answer.text = answer.text.chars().take(characters.saturating_sub(answer.thinking.chars().count())).collect();
        finish = Finish::Length;
    }
    (answer, finish)
}

fn whole(answer: Answer) -> (Answer, Finish) {
    let finish = if answer.calls.is_empty() { Finish::Stop } else { Finish::ToolCalls };
    (answer, finish)
}

/// The answer as the message that a client puts into the conversation.
fn message(answer: &Answer) -> WireMessage {
    let calls = answer.calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str()));
    WireMessage::assistant(&answer.text, &answer.thinking, calls)
}

fn id(request: &ChatRequest, asked: &Asked) -> String {
    format!("chatcmpl-{}-{}", asked.label(), request.messages.len())
}
