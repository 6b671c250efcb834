//! Connections: taken until the server is told to stop, and not kept for who says nothing. axum's own loop sets no timer, without which hyper waits for
//! the head of a request as long as the client likes.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a client may take for the head of a request, or keep a connection between two of them. More than the minute and a half after which clients
/// of reqwest's kind close theirs, so that none is closed while they send.
const HEAD_WITHIN: Duration = Duration::from_mins(2);

/// Answers until `stop` is done, and what is under way then to its end.
pub(super) async fn serve(mut listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let stopping = watch::Sender::new(());
    let mut stop = pin!(stop);
    loop {
        let (stream, _) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = &mut stop => break,
        };
        tokio::spawn(answer(stream, router.clone(), stopping.subscribe(), HEAD_WITHIN));
    }
    drop(listener);
    stopping.send_replace(());
    stopping.closed().await;
}

/// Answers the requests of one connection.
async fn answer(stream: TcpStream, router: Router, mut stopping: watch::Receiver<()>, head_within: Duration) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_within);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!("a connection ended badly: {error}");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What comes of a connection on which `said` is sent, until it is closed.
    async fn told(said: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(said.as_bytes()).await.unwrap();
        let slow = get(|| async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            "slow"
        });
        let (_stopping, told) = watch::channel(());
        let answering = answer(stream, Router::new().route("/", slow), told, Duration::from_millis(100));
        let mut text = String::new();
        let reading = async { client.read_to_string(&mut text).await };
        let both = async { tokio::join!(answering, reading) };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("it is closed").1.unwrap();
        text
    }

    #[tokio::test]
    async fn who_does_not_say_what_is_wanted_is_not_waited_for_and_an_answer_may_take_its_time() {
        assert_eq!(told("").await, "");
        assert!(!told("GET / HTTP/1.1\r\nhost: x\r\n").await.contains("200 OK"));
        let whole = told("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("slow"), "{whole}");
    }
}
