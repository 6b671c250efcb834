//! A real git server for tests: smart HTTP or HTTPS through git's own `git http-backend`, over a folder of bare repositories. It can ask for a
//! password, and be told to fail as servers do. What turns a request into a run of the backend is in `cgi`, what accepts connections in `listener`.

mod cgi;
mod listener;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub use listener::{Connection, FaultyListener, Identity};

/// What a [`GitServer`] is to be; [`GitServerConfig::new`] has the usual.
#[derive(Debug, Clone)]
pub struct GitServerConfig {
    /// The folder with the bare repositories: `<root>/acme/billing.git` is served as `/acme/billing.git`.
    pub root: PathBuf,
    /// Where to listen; port 0 takes a free one. Pods reach the host only by an address of their network.
    pub address: SocketAddr,
    /// HTTPS with a certificate of a CA made for this server ([`GitServer::ca_pem`]), instead of HTTP.
    pub tls: bool,
    /// Who is let in at the start; [`GitServer::set_access`] changes it.
    pub access: Access,
    /// Whether clients may leave objects out (`--filter`); many servers do not let them.
    pub partial_clone: bool,
    /// Whether protocol version 2 is spoken; without it only what a reference points to can be fetched.
    pub protocol_v2: bool,
}

impl GitServerConfig {
    /// An open HTTP server on a free loopback port that can all that a modern one can.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: false,
            access: Access::Open,
            partial_clone: true,
            protocol_v2: true,
        }
    }
}

/// Who may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Who sends this user name and password by HTTP's basic authentication.
    Basic {
        /// The user name.
        username: String,
        /// The password or token.
        password: String,
    },
}

impl Access {
    fn admits(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Open => true,
            Self::Basic { username, password } => {
                let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")));
                headers.get(header::AUTHORIZATION).is_some_and(|sent| sent.as_bytes() == expected.as_bytes())
            }
        }
    }
}

/// How the server behaves from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// As it should.
    Serve,
    /// Each request is answered with this status and an empty body.
    Answer(u16),
    /// Requests are taken and never answered.
    Hang,
    /// Connections are closed as soon as they are made.
    Drop,
}

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub struct GitServer {
    address: SocketAddr,
    ca_pem: Option<String>,
    access: watch::Sender<Access>,
    behaviour: watch::Sender<Behaviour>,
    requests: watch::Sender<u64>,
    runtime: Option<Runtime>,
}

/// What a request needs to know.
#[derive(Debug)]
struct Shared {
    backend: cgi::Backend,
    access: watch::Receiver<Access>,
    behaviour: watch::Receiver<Behaviour>,
    requests: watch::Sender<u64>,
}

impl GitServer {
    /// Starts a server on threads of its own, so that tests with and without a runtime can have one.
    pub fn start(config: GitServerConfig) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("git-server")
            .enable_all()
            .build()
            .context("cannot start the git server's threads")?;
        let access = watch::Sender::new(config.access);
        let behaviour = watch::Sender::new(Behaviour::Serve);
        let requests = watch::Sender::new(0);
        let shared = Shared {
            backend: cgi::Backend {
                root: config.root,
                partial_clone: config.partial_clone,
                protocol_v2: config.protocol_v2,
            },
            access: access.subscribe(),
            behaviour: behaviour.subscribe(),
            requests: requests.clone(),
        };

        let socket = std::net::TcpListener::bind(config.address)
            .with_context(|| format!("cannot listen on {}", config.address))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let identity = if config.tls { Some(listener::Identity::for_address(address.ip())?) } else { None };
        let ca_pem = identity.as_ref().map(|identity| identity.ca_pem.clone());
        let in_runtime = runtime.enter();
        let listener = FaultyListener::new(tokio::net::TcpListener::from_std(socket)?, identity, behaviour.subscribe());
        drop(in_runtime);

        let router = Router::new().fallback(answer).with_state(Arc::new(shared));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, ca_pem, access, behaviour, requests, runtime: Some(runtime) })
    }

    /// The URL of a repository, given its path below the root: `acme/billing.git`.
    pub fn url(&self, repository: &str) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/{repository}", self.address)
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the CA that a client has to trust, in PEM; none without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// How many requests have come in, the refused ones included.
    pub fn requests(&self) -> u64 {
        *self.requests.borrow()
    }

    /// Lets others in from the next request on.
    pub fn set_access(&self, access: Access) {
        self.access.send_replace(access);
    }

    /// Changes how the next request, or connection, is met.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Meets a request as the server was told to; only a well-behaved server looks at it.
async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.requests.send_modify(|requests| *requests += 1);
    let behaviour = *shared.behaviour.borrow();
    match behaviour {
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Answer(status) => {
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
        Behaviour::Serve | Behaviour::Drop => serve(&shared, request).await,
    }
}

async fn serve(shared: &Shared, request: Request) -> Response {
    let admitted = shared.access.borrow().admits(request.headers());
    if !admitted {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
        return (StatusCode::UNAUTHORIZED, challenge, Body::empty()).into_response();
    }
    shared.backend.run(request).await.unwrap_or_else(|error| {
        tracing::warn!("git http-backend: {error:#}");
        (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
    })
}

#[cfg(test)]
mod tests;
