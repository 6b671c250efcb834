//! HTTP/1.1, a connection a request: small enough to see what is on the wire when a fault cuts it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

/// How long nothing may come before a read fails: what stalls is to be seen to stall soon.
const SILENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The message of a whole answer.
    pub(crate) fn message(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json()["choices"][0]["message"].clone()
    }

    /// The message that the pieces of a stream add up to, and how it finished.
    pub(crate) fn streamed(&self) -> (Value, Value) {
        let mut message = json!({"role": "assistant", "content": null});
        let mut finish = Value::Null;
        let mut ended = false;
        for data in self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")) {
            assert!(!ended, "something follows the end: {data}");
            if data == "[DONE]" {
                ended = true;
                continue;
            }
            let piece: Value = serde_json::from_str(data).unwrap();
            let Some(choice) = piece["choices"].get(0) else { continue };
            for field in ["content", "reasoning_content"] {
                if let Some(text) = choice["delta"][field].as_str().filter(|text| !text.is_empty()) {
                    message[field] = json!(format!("{}{text}", message[field].as_str().unwrap_or_default()));
                }
            }
            for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
                if call.get("id").is_some() {
                    let head = json!({"id": call["id"], "type": "function", "function": call["function"]});
                    match message.get_mut("tool_calls") {
                        Some(calls) => calls.as_array_mut().unwrap().push(head),
                        None => message["tool_calls"] = json!([head]),
                    }
                } else {
                    let arguments = &mut message["tool_calls"][index]["function"]["arguments"];
                    *arguments = json!(format!(
                        "{}{}",
                        arguments.as_str().unwrap(),
                        call["function"]["arguments"].as_str().unwrap()
                    ));
                }
            }
            if !choice["finish_reason"].is_null() {
                finish = choice["finish_reason"].clone();
            }
        }
        assert!(ended, "the stream has no end: {}", self.body);
        (message, finish)
    }
}

/// Sends a request and reads its answer to the end.
pub(crate) fn send(address: &str, method: &str, path: &str, body: &str) -> io::Result<Response> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(SILENCE))?;
    connection.set_nodelay(true)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
    read(&mut BufReader::new(connection))
}

fn read(from: &mut impl BufRead) -> io::Result<Response> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no status: {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        from.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let mut response = Response { status, headers, body: String::new() };
    let mut body = Vec::new();
    if response.header("transfer-encoding") == Some("chunked") {
        loop {
            line.clear();
            from.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(|_| io::Error::other("a chunk is cut off"))?;
            let mut chunk = vec![0; length + 2];
            from.read_exact(&mut chunk)?;
            if length == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    } else {
        let length = response.header("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
        body.resize(length, 0);
        from.read_exact(&mut body)?;
    }
    response.body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(response)
}
