//! The one port: liveness, readiness and metrics.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{advice::chain, metrics::Metrics, readiness::Readiness};

/// How long answers under way have at the end; after it their connections are dropped.
const GOODBYE: Duration = Duration::from_millis(100);

/// Why the port does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, not ours, or not permitted.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The server, listening.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

#[derive(Clone)]
struct Shown {
    readiness: Readiness,
    metrics: Metrics,
}

impl Server {
    /// Listens on `address` and answers until stopped.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn start(address: SocketAddr, readiness: Readiness, metrics: Metrics) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let routes = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_text))
            .with_state(Shown { readiness, metrics });
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(stopped).into_future());
        tracing::info!(%address, "serving /healthz, /readyz and /metrics");
        Ok(Self { address, stop, task })
    }

    /// Where it listens; with port 0 asked for, the port that was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, and gives answers under way a moment.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(GOODBYE, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

async fn readyz(State(shown): State<Shown>) -> Response {
    match shown.readiness.missing() {
        None => "ok\n".into_response(),
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n")).into_response(),
    }
}

async fn metrics_text(State(shown): State<Shown>) -> Response {
    match shown.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, chain(&error)).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::runtime::readiness::Startup;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn server() -> (Server, Readiness) {
        let readiness = Readiness::new();
        let server =
            Server::start(([127, 0, 0, 1], 0).into(), readiness.clone(), Metrics::new().unwrap()).await.unwrap();
        (server, readiness)
    }

    #[tokio::test]
    async fn it_is_alive_from_the_start_and_ready_once_every_step_was_reached() {
        let (server, readiness) = server().await;
        assert!(ask(server.address(), "/healthz").await.starts_with("HTTP/1.1 200"));
        let answer = ask(server.address(), "/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("not ready: the API server has not answered yet"),
            "{answer}"
        );
        for step in [Startup::ApiServer, Startup::CustomResources, Startup::Caches] {
            readiness.reached(step);
        }
        assert!(ask(server.address(), "/readyz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_of_prometheus() {
        let (server, _) = server().await;
        let answer = ask(server.address(), "/metrics").await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("sera_operator_build_info"), "{answer}");
    }

    #[tokio::test]
    async fn it_stops_at_once_even_with_an_idle_connection_open() {
        let (server, _) = server().await;
        let address = server.address();
        let _idle = TcpStream::connect(address).await.unwrap();
        ask(address, "/healthz").await;
        tokio::time::timeout(Duration::from_secs(1), server.stop()).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_with_the_flag_to_change_it() {
        let (server, readiness) = server().await;
        let error = Server::start(server.address(), readiness, Metrics::new().unwrap()).await.unwrap_err().to_string();
        assert!(error.contains(&server.address().to_string()) && error.contains("--listen"), "{error}");
    }
}
