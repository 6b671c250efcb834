//! Frames over the stream to one sandbox, without blocking a thread. What they mean is `slot`'s.

use std::path::Path;
use std::time::Duration;

use sera_sandbox::frame::{FrameError, HEADER, header, parse_header};
use sera_sandbox::wire::{Answer, FrameKind, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::SandboxError;

/// What is sent in one data frame, in bytes: large enough that its header does not count, small enough to be held 64 times.
const PIECE: usize = 256 << 10;

/// What is gathered before it is sent or taken, in bytes: a command and its frame. There are hundreds of streams, and what is larger passes by.
const BUFFER: usize = 2 << 10;

/// The stream to one sandbox.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufStream<UnixStream>,
    /// Whether a request is under way. One that was given up in the middle leaves it so: what comes next on the stream is not what is asked for.
    busy: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream: BufStream::with_capacity(BUFFER, BUFFER, stream), busy: false }
    }

    /// Asks, sends the bytes of `file` after it where there is one, and waits for the answer for at most `patience`.
    pub(super) async fn ask(
        &mut self,
        request: &Request,
        file: Option<&Path>,
        patience: Duration,
    ) -> Result<Answer, SandboxError> {
        if std::mem::replace(&mut self.busy, true) {
            return Err(SandboxError::Unexpected("the answer to an earlier request".to_owned()));
        }
        let exchange = async {
            let body = serde_json::to_vec(request).map_err(FrameError::Json)?;
            self.write(FrameKind::Json, &body).await?;
            if let Some(file) = file {
                self.send(file).await?;
            }
            self.stream.flush().await.map_err(FrameError::Io)?;
            let body = self.read_kind(FrameKind::Json).await?;
            Ok::<Answer, SandboxError>(serde_json::from_slice(&body).map_err(FrameError::Json)?)
        };
        let answer = timeout(patience, exchange).await.map_err(|_| SandboxError::Mute(patience))??;
        self.busy = matches!(answer, Answer::Changed { .. });
        match answer {
            Answer::Failed { fault, message, fatal } => Err(SandboxError::Failed { fault, message, fatal }),
            answer => Ok(answer),
        }
    }

    /// The next piece of the data that follows an answer; none at its end.
    pub(super) async fn piece(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, SandboxError> {
        let (kind, body) = timeout(patience, self.read()).await.map_err(|_| SandboxError::Mute(patience))??;
        match kind {
            FrameKind::Data => Ok(Some(body)),
            FrameKind::End => {
                self.busy = false;
                Ok(None)
            }
            found @ FrameKind::Json => Err(FrameError::Unexpected { found, wanted: FrameKind::Data }.into()),
        }
    }

    async fn send(&mut self, file: &Path) -> Result<(), SandboxError> {
        let mut file = tokio::fs::File::open(file).await.map_err(SandboxError::Scratch)?;
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece).await.map_err(SandboxError::Scratch)?;
            if read == 0 {
                return self.write(FrameKind::End, &[]).await;
            }
            self.write(FrameKind::Data, &piece[..read]).await?;
        }
    }

    async fn write(&mut self, kind: FrameKind, body: &[u8]) -> Result<(), SandboxError> {
        self.stream.write_all(&header(kind, body.len())?).await.map_err(FrameError::Io)?;
        self.stream.write_all(body).await.map_err(FrameError::Io)?;
        Ok(())
    }

    async fn read(&mut self) -> Result<(FrameKind, Vec<u8>), SandboxError> {
        let mut head = [0; HEADER];
        self.stream.read_exact(&mut head).await.map_err(FrameError::Io)?;
        let (kind, length) = parse_header(head)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.map_err(FrameError::Io)?;
        Ok((kind, body))
    }

    async fn read_kind(&mut self, wanted: FrameKind) -> Result<Vec<u8>, SandboxError> {
        let (found, body) = self.read().await?;
        if found == wanted { Ok(body) } else { Err(FrameError::Unexpected { found, wanted }.into()) }
    }
}
