//! The program as a process; it ends with the value.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{self, Response};

/// How long a model of a few kilobytes may take to be loaded, on a machine that does much else.
const PATIENCE: usize = 1200;

pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
}

impl Server {
    /// Starts it with a model that is called `m`, and waits until it is ready.
    pub(crate) fn start(model: &Path, arguments: &[&str]) -> Self {
        let mut process = command(model, arguments).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("it says where it listens").to_owned();
        let server = Self { process, address };
        server.wait_until("it is ready", || server.get("/health").status == 200);
        server
    }

    pub(crate) fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..PATIENCE {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} never comes to it that {what}", self.address);
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        http::send(&self.address, "GET", path, "").unwrap()
    }

    pub(crate) fn complete(&self, request: &Value) -> Response {
        http::send(&self.address, "POST", "/v1/chat/completions", &request.to_string()).unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        self.get("/metrics").body
    }

    /// The value of a line of its metrics.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    }

    /// A request that was sent, and whose answer nobody has read yet.
    pub(crate) fn send(&self, request: &Value) -> TcpStream {
        let body = request.to_string();
        let mut connection = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).unwrap();
        connection
    }

    /// A stream whose first piece has been read.
    pub(crate) fn stream(&self, request: &Value) -> BufReader<TcpStream> {
        let mut request = request.clone();
        request["stream"] = json!(true);
        let mut reader = BufReader::new(self.send(&request));
        let mut line = String::new();
        while !line.starts_with("data: ") {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the stream has no beginning");
        }
        reader
    }

    /// Tells it to stop.
    pub(crate) fn terminate(&self) {
        let told = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The rest of a stream.
pub(crate) fn rest(mut stream: BufReader<TcpStream>) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Runs it to an end that it comes to by itself: its code, and the line that says why.
pub(crate) fn fails(model: &Path, arguments: &[&str]) -> (i32, String) {
    let Output { status, stderr, .. } = command(model, arguments).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    let errors: Vec<_> = said.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    (status.code().unwrap(), errors[0].to_owned())
}

/// A request of one message.
pub(crate) fn asking(content: &str, more: &Value) -> Value {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": content}], "temperature": 0});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn command(model: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sera-teacher"));
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--served-model-name", "m", "--threads", "2", "--model"])
        .arg(model);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}
