//! The server of a small model: who asks for what at which address. What a request says, how an answer is told apart and how it is written have files
//! of their own; the model itself is `sera_trainer`'s.

mod answer;
mod body;
mod connections;
mod metrics;
mod model;
mod reading;
mod request;
mod speech;
mod text;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::http::{Refusal, json_response, metrics_response, now};
use answer::{Answer, Making, Next};
use body::{Frame, Pieces, Whole};
use metrics::Metrics;
use reading::{Read, Reading};

pub(crate) use model::{Model, ModelError, ModelSettings};
use request::ChatRequest;

/// What the body of a chat completion hands to a chat template: its messages, of which there is at least one, and the tools that may be called. Or the
/// words that it is refused with, which name what is wrong.
pub fn templates_input(body: &[u8]) -> Result<(Vec<Value>, Vec<Value>), String> {
    let request = ChatRequest::parse(body).map_err(|refusal| refusal.message)?;
    Ok((request.messages, request.tools))
}

/// How soon to ask again while the model is being loaded, or when too many are waiting: a short answer later.
const SOON: u32 = 2;

/// A server whose model may still be on its way.
#[derive(Debug)]
pub(crate) struct Server {
    /// What clients call the model.
    name: String,
    model: OnceLock<Model>,
    metrics: Arc<Metrics>,
    reading: Reading,
    stopping: AtomicBool,
    created: u64,
}

impl Server {
    /// One without a model yet.
    pub(crate) fn new(name: String) -> std::io::Result<Arc<Self>> {
        let metrics = Arc::new(Metrics::new().map_err(std::io::Error::other)?);
        let (model, stopping) = (OnceLock::new(), AtomicBool::new(false));
        Ok(Arc::new(Self { name, model, metrics, reading: Reading::new(), stopping, created: now() }))
    }

    /// From now on, it answers.
    pub(crate) fn ready(&self, model: Model) {
        // A second one is never made.
        let _ = self.model.set(model);
    }

    /// From now on, it takes no more requests, and says that it is on its way out.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the model has stopped to answer.
    pub(crate) fn broken(&self) -> bool {
        self.model.get().is_some_and(|model| !model.alive())
    }

    /// The model, if it can be asked.
    fn model(&self) -> Result<&Model, Refusal> {
        let unavailable = |message: &str| {
            let refusal =
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "unavailable", message.to_owned());
            Refusal { retry_after: Some(SOON), ..refusal }
        };
        if self.stopping.load(Ordering::Relaxed) {
            return Err(unavailable("the server is being stopped; ask another one"));
        }
        let model = self.model.get().ok_or_else(|| unavailable("the model is being loaded"))?;
        if model.alive() { Ok(model) } else { Err(Refusal::broken("the model does not answer any more")) }
    }

    async fn complete(self: &Arc<Self>, request: Request, began: Instant) -> Result<Response, Refusal> {
        let read = self.reading.read(request, self.model.get().map(Model::context)).await?;
        self.model()?;
        let server = Arc::clone(self);
        // Beside the threads that serve: a long conversation takes milliseconds to be rendered and cut into tokens.
        let taken = tokio::task::spawn_blocking(move || server.take(&read, began)).await.map_err(|error| {
            tracing::error!("a request could not be read: {error}");
            Refusal::broken("the server failed on this request: a mistake in the program")
        });
        let Taken { answer, frame, stream, include_usage } = taken??;
        if stream { Ok(streamed(answer, frame, include_usage)) } else { whole(answer, &frame).await }
    }

    /// Puts a request to the model. The answer is made here and not where it is given, so that who hangs up in between is counted too.
    fn take(&self, read: &Read, began: Instant) -> Result<Taken, Refusal> {
        let request = ChatRequest::parse(&read.body)?;
        if request.model != self.name {
            return Err(Refusal::no_model(&request.model, &format!("there is \"{}\"", self.name)));
        }
        let asked = self.model()?.ask(&request)?;
        let frame =
            Frame { id: format!("{:x}-{:x}", self.created, asked.number), created: now(), model: self.name.clone() };
        let answer = Answer::new(Making {
            chat: asked.chat,
            metrics: Arc::clone(&self.metrics),
            events: asked.events,
            prompt_end: asked.prompt_end,
            prompt_tokens: asked.prompt_tokens,
            calls: if request.tools.is_empty() {
                0
            } else if request.several_calls {
                usize::MAX
            } else {
                1
            },
            stops: request.stops,
            began,
        });
        Ok(Taken { answer, frame, stream: request.stream, include_usage: request.include_usage })
    }
}

/// A request that the model works on.
struct Taken {
    answer: Answer,
    frame: Frame,
    /// Whether it is answered in pieces.
    stream: bool,
    /// Whether the last piece says what it took.
    include_usage: bool,
}

/// Answers until `stop` is done.
pub(crate) async fn serve(listener: TcpListener, server: Arc<Server>, stop: impl Future<Output = ()>) {
    let router = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/models", get(models))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(nothing)
        .method_not_allowed_fallback(nothing)
        .with_state(server);
    connections::serve(listener, router, stop).await;
}

async fn complete(State(server): State<Arc<Server>>, request: Request) -> Response {
    let began = Instant::now();
    server.complete(request, began).await.unwrap_or_else(|refusal| {
        server.metrics.refused(refusal.status.as_u16());
        refusal.into_response()
    })
}

async fn models(State(server): State<Arc<Server>>) -> Response {
    let mut entry =
        json!({"id": server.name, "object": "model", "created": server.created, "owned_by": "sera-operator"});
    if let Some(model) = server.model.get() {
        entry["max_model_len"] = model.context().into();
    }
    json_response(StatusCode::OK, &json!({"object": "list", "data": [entry]}))
}

async fn health(State(server): State<Arc<Server>>) -> Response {
    match server.model() {
        Ok(_) => json_response(StatusCode::OK, &json!({"status": "ok"})),
        Err(refusal) => refusal.into_response(),
    }
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    metrics_response(server.metrics.text(server.model.get().map(Model::state)))
}

async fn nothing(method: Method, uri: Uri) -> Refusal {
    let message = format!(
        "there is no {method} {}: there are POST /v1/chat/completions and GET /v1/models, /health and /metrics",
        uri.path()
    );
    Refusal::new(StatusCode::NOT_FOUND, "invalid_request_error", "not_found", message)
}

async fn whole(mut answer: Answer, frame: &Frame) -> Result<Response, Refusal> {
    let mut whole = Whole::default();
    loop {
        match answer.next().await? {
            Next::Piece(piece) => whole.add(piece),
            Next::Working => {}
            Next::End(finish) => {
                return Ok(json_response(StatusCode::OK, &whole.body(frame, finish, answer.counts())));
            }
        }
    }
}

/// The answer as server-sent events. It is dropped, and the model told to stop, when the client hangs up.
fn streamed(answer: Answer, frame: Frame, include_usage: bool) -> Response {
    let pieces = Pieces::new(frame);
    let first = event(&pieces.first().to_string());
    let events = stream::unfold(Some((answer, pieces, Some(first))), move |state| async move {
        let (mut answer, mut pieces, first) = state?;
        if let Some(first) = first {
            return Some((first, Some((answer, pieces, None))));
        }
        match answer.next().await {
            Ok(Next::Piece(piece)) => {
                let text = event(&pieces.piece(&piece).to_string());
                Some((text, Some((answer, pieces, None))))
            }
            Ok(Next::Working) => Some((event(&pieces.nothing_yet().to_string()), Some((answer, pieces, None)))),
            Ok(Next::End(finish)) => {
                let usage = include_usage.then(|| event(&pieces.usage(answer.counts()).to_string()));
                let end = [Some(event(&pieces.end(finish).to_string())), usage, Some(event("[DONE]"))];
                Some((end.into_iter().flatten().collect(), None))
            }
            Err(refusal) => Some((event(&refusal.body().to_string()), None)),
        }
    });
    let events = futures::StreamExt::map(events, |text| Ok::<_, Infallible>(Bytes::from(text)));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(events)).into_response()
}

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}
