//! A router that is served until it is dropped, over TLS where it is asked for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;
use axum::Router;
use sera_git_server::{Behaviour, FaultyListener, Identity};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A running server; it ends when it is dropped.
pub(crate) struct Served {
    address: SocketAddr,
    ca_pem: Option<String>,
    runtime: Option<Runtime>,
}

impl Served {
    /// Serves on a free loopback port, what `router` makes of the server's own address.
    pub(crate) fn start(tls: bool, router: impl FnOnce(&str) -> Router) -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), tls, router)
    }

    /// The same at an address of this machine, which others reach.
    pub(crate) fn start_at(at: IpAddr, tls: bool, router: impl FnOnce(&str) -> Router) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("test-server")
            .enable_all()
            .build()
            .context("cannot start the server's threads")?;
        let socket = std::net::TcpListener::bind((at, 0)).context("cannot listen")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let identity = if tls { Some(Identity::for_address(address.ip())?) } else { None };
        let ca_pem = identity.as_ref().map(|identity| identity.ca_pem.clone());
        let in_runtime = runtime.enter();
        let behaviour = watch::Sender::new(Behaviour::Serve).subscribe();
        let listener = FaultyListener::new(tokio::net::TcpListener::from_std(socket)?, identity, behaviour);
        drop(in_runtime);
        let mut served = Self { address, ca_pem, runtime: None };
        let router = router(&served.origin());
        runtime.spawn(async move { axum::serve(listener, router).await });
        served.runtime = Some(runtime);
        Ok(served)
    }

    /// `https://host:port`.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The certificate of the CA that a client has to trust, in PEM; none without TLS.
    pub(crate) fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
