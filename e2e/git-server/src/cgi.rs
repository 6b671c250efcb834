//! One request, one run of `git http-backend`: the CGI protocol (RFC 3875), as far as that program needs it.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::stream;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// The largest request that is taken, in bytes. What a fetch sends is a list of object names.
const MAX_REQUEST: usize = 64 << 20;
/// What is handed on at once of an answer, in bytes.
const CHUNK: usize = 64 << 10;

/// How the backend is run; the fields are those of the server's configuration.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) root: PathBuf,
    pub(super) partial_clone: bool,
    pub(super) protocol_v2: bool,
}

impl Backend {
    /// Answers a request with what the backend says to it; the answer's body is handed on as it comes.
    pub(super) async fn run(&self, request: Request) -> anyhow::Result<Response> {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, MAX_REQUEST).await.context("the request is too large")?;
        let header =
            |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut command = Command::new("git");
        command
            .arg("http-backend")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_COUNT", "2")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .env("GIT_CONFIG_KEY_1", "uploadpack.allowFilter")
            .env("GIT_CONFIG_VALUE_1", self.partial_clone.to_string())
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REQUEST_METHOD", head.method.as_str())
            .env("PATH_INFO", head.uri.path())
            .env("QUERY_STRING", head.uri.query().unwrap_or_default())
            .env("CONTENT_TYPE", header(header::CONTENT_TYPE))
            .env("CONTENT_LENGTH", body.len().to_string())
            .env("HTTP_CONTENT_ENCODING", header(header::CONTENT_ENCODING))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        if self.protocol_v2 {
            command.env("GIT_PROTOCOL", header(HeaderName::from_static("git-protocol")));
        }
        let mut child = command.spawn().context("cannot run git http-backend")?;
        let mut stdin = child.stdin.take().context("the backend has no standard input")?;
        let stdout =
            BufReader::with_capacity(CHUNK, child.stdout.take().context("the backend has no standard output")?);
        // Beside the answer, since neither side waits for the other to finish.
        tokio::spawn(async move { stdin.write_all(&body).await });
        answer(child, stdout).await
    }
}

/// Reads the CGI head of an answer, and leaves its body to be streamed.
async fn answer(child: Child, mut stdout: BufReader<ChildStdout>) -> anyhow::Result<Response> {
    let mut response = Response::new(Body::empty());
    loop {
        let mut line = String::new();
        if stdout.read_line(&mut line).await.context("the backend's answer cannot be read")? == 0 {
            bail!("the backend ended before its answer began");
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").with_context(|| format!("'{line}' is no header"))?;
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().unwrap_or_default();
            *response.status_mut() = StatusCode::from_bytes(code.as_bytes())?;
        } else {
            response.headers_mut().append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
    }
    // The child lives as long as somebody reads its answer.
    let chunks = stream::try_unfold((child, stdout), |(child, mut stdout)| async move {
        let mut chunk = vec![0; CHUNK];
        let read = stdout.read(&mut chunk).await?;
        chunk.truncate(read);
        std::io::Result::Ok((read > 0).then_some((chunk, (child, stdout))))
    });
    *response.body_mut() = Body::from_stream(chunks);
    Ok(response)
}
