//! The program as a process; it ends with the value.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::http::{self, Response};

pub(crate) struct Teacher {
    process: Child,
    pub(crate) address: String,
}

impl Teacher {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sera-teacher"))
            .args(["rehearse", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("it says where it listens").to_owned();
        Self { process, address }
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        http::send(&self.address, "GET", path, "").unwrap()
    }

    pub(crate) fn complete(&self, request: &Value) -> Response {
        http::send(&self.address, "POST", "/v1/chat/completions", &request.to_string()).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended after it was told to stop.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Teacher {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
