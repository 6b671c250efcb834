//! A scripted teacher: a server of `/v1/chat/completions` whose every answer, and every way of not answering, is written down by a test. It is shared
//! by unit tests, by tests of the program and by the bench.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a call.
pub(crate) enum Reply {
    /// A whole answer.
    Json(Value),
    /// An answer in pieces, and its end.
    Stream(Vec<Value>),
    /// Another status, with headers (`name: value` lines, each with its end) and a body.
    Status(u16, &'static str, String),
    /// These bytes, and then what follows.
    Raw(Vec<u8>, Then),
}

/// What follows bytes that were written by hand.
pub(crate) enum Then {
    /// The connection ends in order.
    Close,
    /// It is reset.
    Reset,
    /// Nothing, for ever.
    Hang,
}

/// A server that lives as long as this.
pub(crate) struct Endpoint {
    /// Its base address, as `--teacher-url` takes it.
    pub(crate) url: String,
    heard: Arc<Heard>,
    server: tokio::task::JoinHandle<()>,
}

/// What has come.
#[derive(Default)]
struct Heard {
    calls: AtomicUsize,
    /// The bodies of the calls, where somebody wants to see them.
    bodies: Option<Mutex<Vec<Vec<u8>>>>,
}

impl Heard {
    /// The number of a call, from 0.
    fn call(&self, body: Vec<u8>) -> usize {
        if let Some(bodies) = &self.bodies {
            bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        }
        self.calls.fetch_add(1, Ordering::SeqCst)
    }
}

impl Endpoint {
    /// Starts a server; `reply` is given the number of the call, from 0, and the request.
    pub(crate) async fn start(reply: impl Fn(usize, Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_slow(Duration::ZERO, reply).await
    }

    /// The same, with a pause before each answer.
    pub(crate) async fn start_slow(
        pause: Duration,
        reply: impl Fn(usize, Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Heard::default(), pause, reply).await
    }

    /// The same, and keeps what it is asked.
    pub(crate) async fn start_recording(reply: impl Fn(usize, Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Heard { bodies: Some(Mutex::default()), ..Heard::default() }, Duration::ZERO, reply).await
    }

    async fn listen(
        heard: Heard,
        pause: Duration,
        reply: impl Fn(usize, Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
        let url = format!("http://{}/v1", listener.local_addr().expect("its address"));
        let (heard, reply) = (Arc::new(heard), Arc::new(reply));
        let hearing = heard.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (hearing, reply) = (hearing.clone(), reply.clone());
                tokio::spawn(async move { serve(stream, &hearing, pause, &*reply).await });
            }
        });
        Self { url, heard, server }
    }

    /// How many calls have come.
    pub(crate) fn calls(&self) -> usize {
        self.heard.calls.load(Ordering::SeqCst)
    }

    /// What was asked, byte by byte, as it came; nothing where it is not kept.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        let bodies = self.heard.bodies.as_ref();
        bodies.map(|bodies| bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers the calls of one connection, one after the other.
async fn serve(
    stream: TcpStream,
    heard: &Heard,
    pause: Duration,
    reply: &(dyn Fn(usize, Value) -> Reply + Send + Sync),
) {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    while let Some(body) = read(&mut stream).await {
        let Ok(request) = serde_json::from_slice(&body) else { return };
        let number = heard.call(body);
        let reply = reply(number, request);
        tokio::time::sleep(pause).await;
        if write(stream.get_mut(), reply).await.is_none() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// Writes an answer; none where the connection has ended with it.
async fn write(stream: &mut TcpStream, reply: Reply) -> Option<()> {
    let bytes = match reply {
        Reply::Json(body) => response(200, "content-type: application/json\r\n", &body.to_string()),
        Reply::Stream(pieces) => {
            let events: String = pieces.iter().map(|piece| format!("data: {piece}\n\n")).collect();
            response(200, "content-type: text/event-stream\r\n", &format!("{events}data: [DONE]\n\n"))
        }
        Reply::Status(status, headers, body) => response(status, headers, &body),
        Reply::Raw(bytes, then) => {
            stream.write_all(&bytes).await.ok()?;
            stream.flush().await.ok()?;
            match then {
                Then::Close => {}
                Then::Reset => stream.set_zero_linger().ok()?,
                Then::Hang => std::future::pending().await,
            }
            return None;
        }
    };
    stream.write_all(&bytes).await.ok()
}

/// An answer of HTTP/1.1.
pub(crate) fn response(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The message of an answer with one tool call.
pub(crate) fn call(tool: &str, arguments: &Value) -> Value {
    json!({"content": "", "tool_calls": [tool_call("call-1", tool, &arguments.to_string())]})
}

/// A tool call, its arguments as they are.
pub(crate) fn tool_call(id: &str, tool: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": tool, "arguments": arguments}})
}

/// A whole answer around a message.
pub(crate) fn answer(message: &Value) -> Value {
    json!({
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 90}},
    })
}
