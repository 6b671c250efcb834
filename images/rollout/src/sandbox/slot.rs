//! One sandbox: what can be asked of it, in the driver's words, and what it last had put into it.

use std::path::Path;
use std::time::Duration;

use sera_sandbox::wire::{Answer, ChangedFile, CommandEnd, EditOperation, PROTOCOL, Policy, Request};
use tokio::net::UnixStream;
use tokio::process::Child;

use super::SandboxError;
use super::connection::Connection;

/// How long a sandbox may take for what has no limit of its own: to unpack a tree, to compare one, to restore one.
const PATIENCE: Duration = Duration::from_mins(5);
/// How much later than its limit a command may be reported: everything in the slot is killed first.
const GRACE: Duration = Duration::from_secs(30);

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Executed {
    pub(crate) end: CommandEnd,
    /// What it printed; where the middle was left out, the text says so.
    pub(crate) output: String,
}

/// A sandbox.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u32,
    connection: Connection,
    setup_timeout: Duration,
    /// What keeps commands apart in it.
    protections: Vec<String>,
    /// The tree that it restores when it is wiped.
    tree: Option<String>,
    /// Whether it may be used again.
    fit: bool,
    /// The local process, which ends with this.
    _process: Option<Child>,
}

/// What differs from what was put: the files first, then their contents in the same order.
pub(crate) struct Changes<'a> {
    pub(crate) files: Vec<ChangedFile>,
    slot: &'a mut Slot,
    /// What has come and was not asked for yet.
    rest: Vec<u8>,
    taken: usize,
}

impl Slot {
    /// Greets the sandbox at the other end of `stream`, and refuses one that has its workspace elsewhere.
    pub(crate) async fn greet(
        number: u32,
        stream: UnixStream,
        process: Option<Child>,
        policy: &Policy,
        workspace: &str,
    ) -> Result<Self, SandboxError> {
        let mut connection = Connection::new(stream);
        let hello = Request::Hello { protocol: PROTOCOL, policy: policy.clone() };
        match connection.ask(&hello, None, PATIENCE).await? {
            Answer::Ready { protocol: PROTOCOL, protections, workspace: found, shell } => {
                if found != workspace {
                    return Err(SandboxError::Elsewhere { found, wanted: workspace.to_owned() });
                }
                tracing::info!(slot = number, ?protections, shell, "a sandbox is ready");
                let setup_timeout = Duration::from_millis(policy.setup_timeout_ms);
                Ok(Self { number, connection, setup_timeout, protections, tree: None, fit: true, _process: process })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Its number, for logs.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// What keeps commands apart in it.
    pub(crate) fn protections(&self) -> &[String] {
        &self.protections
    }

    /// Whether it has `tree`, and gives it back when it is wiped.
    pub(super) fn has(&self, tree: &str) -> bool {
        self.tree.as_deref() == Some(tree)
    }

    /// Whether it may be used again.
    pub(super) fn is_fit(&self) -> bool {
        self.fit
    }

    /// Puts a tree, which is in the tar file `archive`, into the workspace.
    pub(super) async fn put(&mut self, tree: &str, archive: &Path) -> Result<(), SandboxError> {
        self.tree = None;
        let request = Request::Put { tree: tree.to_owned() };
        match self.ask(&request, Some(archive), PATIENCE + self.setup_timeout).await? {
            Answer::Put { .. } => {
                self.tree = Some(tree.to_owned());
                Ok(())
            }
            other => Err(self.distrust(&other)),
        }
    }

    /// Ends what runs, and restores what was put.
    pub(super) async fn wipe(&mut self) -> Result<(), SandboxError> {
        match self.ask(&Request::Wipe, None, PATIENCE + self.setup_timeout).await? {
            Answer::Wiped { .. } => Ok(()),
            other => Err(self.distrust(&other)),
        }
    }

    /// Executes a command as the model wrote it.
    pub(crate) async fn exec(
        &mut self,
        command: &str,
        limit: Duration,
        max_output: u32,
    ) -> Result<Executed, SandboxError> {
        let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Exec { command: command.to_owned(), timeout_ms, max_output };
        match self.ask(&request, None, limit + GRACE).await? {
            Answer::Executed { end, output, .. } => Ok(Executed { end, output }),
            other => Err(self.distrust(&other)),
        }
    }

    /// Does what the editor is told; the text is for the model, whether it was done or not.
    pub(crate) async fn edit(&mut self, operation: EditOperation, max_chars: u32) -> Result<String, SandboxError> {
        match self.ask(&Request::Edit { operation, max_chars }, None, PATIENCE).await? {
            Answer::Edited { output, .. } => Ok(output),
            other => Err(self.distrust(&other)),
        }
    }

    /// What differs from what was put. The contents have to be taken to their end before anything else is asked.
    pub(crate) async fn changed(&mut self) -> Result<Changes<'_>, SandboxError> {
        match self.ask(&Request::Changed, None, PATIENCE).await? {
            Answer::Changed { files } => Ok(Changes { files, slot: self, rest: Vec::new(), taken: 0 }),
            other => Err(self.distrust(&other)),
        }
    }

    /// A slot whose answers make no sense is not used again.
    pub(crate) fn condemn(&mut self) {
        self.fit = false;
    }

    async fn ask(
        &mut self,
        request: &Request,
        file: Option<&Path>,
        patience: Duration,
    ) -> Result<Answer, SandboxError> {
        let answer = self.connection.ask(request, file, patience).await;
        self.fit &= !answer.as_ref().is_err_and(SandboxError::is_fatal);
        answer
    }

    fn distrust(&mut self, answer: &Answer) -> SandboxError {
        self.condemn();
        unexpected(answer)
    }
}

impl Changes<'_> {
    /// Hands the next `bytes` of the contents to `sink`, piece by piece.
    pub(crate) async fn take(
        &mut self,
        bytes: u64,
        mut sink: impl AsyncFnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), SandboxError> {
        let mut left = bytes;
        while left > 0 {
            if self.taken == self.rest.len() {
                self.rest = self.next().await?.ok_or_else(|| self.condemned("less content than was announced"))?;
                self.taken = 0;
            }
            let piece = &self.rest[self.taken..];
            let piece = &piece[..usize::try_from(left).unwrap_or(usize::MAX).min(piece.len())];
            sink(piece).await.map_err(SandboxError::Scratch)?;
            self.taken += piece.len();
            left -= piece.len() as u64;
        }
        Ok(())
    }

    /// Takes the end; more contents than were announced are no end.
    pub(crate) async fn finish(mut self) -> Result<(), SandboxError> {
        if self.taken < self.rest.len() || self.next().await?.is_some() {
            return Err(self.condemned("more content than was announced"));
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>, SandboxError> {
        let piece = self.slot.connection.piece(PATIENCE).await;
        if piece.is_err() {
            self.slot.condemn();
        }
        piece
    }

    fn condemned(&mut self, what: &str) -> SandboxError {
        self.slot.condemn();
        SandboxError::Unexpected(what.to_owned())
    }
}

fn unexpected(answer: &Answer) -> SandboxError {
    let name = match answer {
        Answer::Ready { .. } => "ready, of another protocol",
        Answer::Put { .. } => "put",
        Answer::Executed { .. } => "executed",
        Answer::Edited { .. } => "edited",
        Answer::Changed { .. } => "changed",
        Answer::Wiped { .. } => "wiped",
        Answer::Failed { .. } => "failed",
    };
    SandboxError::Unexpected(name.to_owned())
}
