//! What accepts connections of the tests' servers: plain or TLS, and closed at once when a server is told to drop them.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::Context;
use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use super::Behaviour;

/// How many authorities this process has made.
static AUTHORITIES: AtomicU64 = AtomicU64::new(0);
/// How long a client may take to shake hands, before the next one is let in.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A certificate for one address, and the CA that signed it.
pub struct Identity {
    /// The certificate of the CA that a client has to trust, in PEM.
    pub ca_pem: String,
    acceptor: TlsAcceptor,
}

impl Identity {
    /// Makes a CA, and a certificate of it for `address`.
    pub fn for_address(address: IpAddr) -> anyhow::Result<Self> {
        let mut ca = CertificateParams::default();
        // A name of its own, or clients that trust several look at the wrong one.
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("CA {number} of process {} of the tests", std::process::id());
        ca.distinguished_name.push(DnType::CommonName, name);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name.push(DnType::CommonName, "a server of the tests");
        leaf.subject_alt_names = vec![SanType::IpAddress(address)];
        let leaf = leaf.signed_by(&key, &ca)?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .context("the git server's certificate does not fit its key")?;
        Ok(Self { ca_pem: ca.as_ref().pem(), acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

/// A listener that can be told to close what it accepts.
pub struct FaultyListener {
    socket: TcpListener,
    acceptor: Option<TlsAcceptor>,
    behaviour: watch::Receiver<Behaviour>,
}

impl FaultyListener {
    /// `identity`: what to speak TLS with; `behaviour`: how the next connection is met.
    pub fn new(socket: TcpListener, identity: Option<Identity>, behaviour: watch::Receiver<Behaviour>) -> Self {
        Self { socket, acceptor: identity.map(|identity| identity.acceptor), behaviour }
    }
}

impl Listener for FaultyListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // The trait's own accept for TCP: it waits out errors such as too many open files.
            let (stream, peer) = Listener::accept(&mut self.socket).await;
            if *self.behaviour.borrow() == Behaviour::Drop {
                continue;
            }
            let Some(acceptor) = &self.acceptor else {
                return (Connection::Plain(stream), peer);
            };
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => return (Connection::Tls(Box::new(stream)), peer),
                Ok(Err(error)) => tracing::debug!(%peer, "no TLS with this client: {error}"),
                Err(_) => tracing::debug!(%peer, "this client did not finish its handshake"),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection, plain or not.
pub enum Connection {
    /// As it was accepted.
    Plain(TcpStream),
    /// After a handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
