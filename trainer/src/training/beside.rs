//! What goes on beside the steps, in a thread of its own: signals are waited for, and `/progress`, `/metrics` and `/healthz` are served. Nothing can
//! be changed through them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::meter::Meter;

/// The media type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4";

/// Why nothing can go on beside.
#[derive(Debug, thiserror::Error)]
pub enum BesideError {
    /// The thread, or what it needs.
    #[error("the thread for signals cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The address.
    #[error("{address} cannot be listened on: {source}; give another one with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Whether the process was told to stop; a clone knows the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether it was.
    pub fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks for it.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts the thread; it ends with the process. SIGTERM and SIGINT ask for a stop, and what `meter` shows is served at `listen`, where one is given.
/// Returns the address that is listened on.
pub fn start(listen: Option<SocketAddr>, meter: Arc<Meter>, stop: Stop) -> Result<Option<SocketAddr>, BesideError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BesideError::Thread)?;
    let entered = runtime.enter();
    let signals = [signal(SignalKind::terminate()), signal(SignalKind::interrupt())];
    let [terminate, interrupt] = signals.map(|signal| signal.map_err(BesideError::Thread));
    let (terminate, interrupt) = (terminate?, interrupt?);
    let listener = match listen {
        Some(address) => {
            let bound = runtime.block_on(tokio::net::TcpListener::bind(address));
            Some(bound.map_err(|source| BesideError::Listen { address, source })?)
        }
        None => None,
    };
    let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    drop(entered);
    let work = async move {
        let signals = tokio::spawn(stopped(terminate, interrupt, stop));
        if let Some(listener) = listener
            && let Err(error) = axum::serve(listener, router(meter)).await
        {
            tracing::error!("progress and metrics are served no more: {error}");
        }
        signals.await
    };
    let thread = std::thread::Builder::new().name("beside".to_owned());
    let started = thread.spawn(move || {
        if let Err(error) = runtime.block_on(work) {
            tracing::error!("signals are waited for no more: {error}");
        }
    });
    started.map(|_| address).map_err(BesideError::Thread)
}

async fn stopped(mut terminate: Signal, mut interrupt: Signal, stop: Stop) {
    loop {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("stopped by {name}: where a step is under way, it is finished and a checkpoint is written");
        stop.ask();
    }
}

fn router(meter: Arc<Meter>) -> Router {
    Router::new()
        .route("/progress", get(progress))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(meter)
}

async fn progress(State(meter): State<Arc<Meter>>) -> Response {
    match serde_json::to_vec(&meter.progress()) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => failed(&error),
    }
}

async fn metrics(State(meter): State<Arc<Meter>>) -> Response {
    match meter.text() {
        Ok(text) => ([(header::CONTENT_TYPE, PROMETHEUS)], text).into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}
