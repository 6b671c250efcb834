//! A session: the driver's requests, one after the other, until it goes.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use crate::container::Allowance;
use crate::editor::{Editor, Workspace};
use crate::environment;
use crate::frame::{self, DataReader, DataWriter, FrameError};
use crate::outside::Outside;
use crate::places::Places;
use crate::slot::{Slot, SlotError};
use crate::wire::{Answer, Fault, PROTOCOL, Policy, Request};

/// The most of a command's output that is kept, in bytes: written as JSON it can become six times as long, and has to fit into a frame.
const MOST_OUTPUT: u32 = 4 << 20;
/// How many characters the editor shows at most, for the same reason.
const MOST_SHOWN: u32 = 1 << 20;
/// The longest that a command may take.
const LONGEST: Duration = Duration::from_hours(24);

/// Why a session ended that should not have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The connection.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The signals of this process cannot be had.
    #[error("signals cannot be waited for: {0}")]
    Signals(#[from] Errno),
    /// The connection cannot be used from two sides.
    #[error("the connection cannot be used: {0}")]
    Connection(#[source] io::Error),
    /// The driver speaks another protocol, or speaks out of turn.
    #[error("the driver broke the protocol: {0}")]
    Protocol(String),
    /// The slot cannot be used.
    #[error("the slot cannot be used any more: {0}")]
    Slot(String),
}

/// How a slot is to be made, beside what the driver's policy says.
pub(crate) struct Setting {
    pub(crate) places: Places,
    /// The user in a namespace of the commands' own.
    pub(crate) user: Option<(u32, u32)>,
    /// Whether this process is the first in namespaces of the slot's own.
    pub(crate) namespaces: bool,
    /// What else commands may write to.
    pub(crate) further: Vec<PathBuf>,
    /// Whether the slot has had a driver before, and nobody restored it since.
    pub(crate) used: bool,
    /// Whether commands get the variables of this process.
    pub(crate) inherit: bool,
    /// What commands may take, whatever the driver's policy says.
    pub(crate) allowance: Allowance,
}

/// Serves one driver to its end.
pub(crate) fn serve(setting: &Setting, input: File, output: File) -> Result<(), SessionError> {
    let peer = input.try_clone().map_err(SessionError::Connection)?;
    let outside = Outside::new(peer)?;
    let mut session = Session { input: BufReader::new(input), output, outside };
    let ended = session.run(setting);
    match ended {
        Err(Stop::Broken(error)) => Err(error),
        Err(Stop::Ended) | Ok(()) => Ok(()),
    }
}

/// Why a session stops.
enum Stop {
    Ended,
    Broken(SessionError),
}

impl From<FrameError> for Stop {
    fn from(error: FrameError) -> Self {
        match error {
            // The driver is a process that may be killed at any time; that is no error of this one.
            FrameError::Io(_) => Self::Ended,
            other => Self::Broken(other.into()),
        }
    }
}

struct Session {
    input: BufReader<File>,
    output: File,
    outside: Outside,
}

impl Session {
    fn run(&mut self, setting: &Setting) -> Result<(), Stop> {
        let Some(mut slot) = self.greet(setting)? else { return Ok(()) };
        let mut editor = Editor::default();
        loop {
            if self.input.buffer().is_empty()
                && let Err(error) = slot.idle(&self.outside)
            {
                return self.finish(&mut slot, &error);
            }
            let Some(request) = self.next()? else { break };
            match self.answer(setting, &mut slot, &mut editor, request) {
                Ok(()) => {}
                Err(Failure::Stop(stop)) => {
                    let _ = slot.end_all();
                    return Err(stop);
                }
                Err(Failure::Slot(error)) if error.is_fatal() => return self.finish(&mut slot, &error),
                Err(Failure::Slot(error)) => self.fail(error.fault(), error.to_string(), false)?,
            }
        }
        let _ = slot.end_all();
        Ok(())
    }

    /// The next request; none where the driver has gone.
    fn next(&mut self) -> Result<Option<Request>, Stop> {
        match frame::read_message(&mut self.input) {
            Err(FrameError::Io(_)) => Ok(None),
            Err(error) => {
                let message = error.to_string();
                self.fail(Fault::Protocol, message.clone(), true)?;
                Err(Stop::Broken(SessionError::Protocol(message)))
            }
            Ok(request) => Ok(request),
        }
    }

    /// Hears what must hold, and makes a slot of that kind; none where the driver went without a word.
    fn greet(&mut self, setting: &Setting) -> Result<Option<Slot>, Stop> {
        // A child that ends is heard of too.
        while !self.outside.wait(&[], &[], true, None).map_err(|_| Stop::Ended)?.request {}
        let Some(request) = self.next()? else { return Ok(None) };
        let policy = match request {
            Request::Hello { protocol: PROTOCOL, policy } => policy,
            Request::Hello { protocol, .. } => {
                return self
                    .refuse(format!("the driver speaks version {protocol} of the protocol, this is {PROTOCOL}"));
            }
            _ => return self.refuse("the first request has to be the greeting".to_owned()),
        };
        match self.make_slot(setting, &policy) {
            Ok(slot) => {
                let (places, protections) = (&setting.places, slot.protections());
                let workspace = places.workspace.display().to_string();
                self.say(&Answer::Ready { protocol: PROTOCOL, protections, workspace, shell: slot.shell_path() })?;
                Ok(Some(slot))
            }
            Err(SlotError::Ending(_)) => Err(Stop::Ended),
            Err(error) => {
                self.fail(error.fault(), error.to_string(), true)?;
                Err(Stop::Broken(SessionError::Slot(error.to_string())))
            }
        }
    }

    fn make_slot(&self, setting: &Setting, policy: &Policy) -> Result<Slot, SlotError> {
        let variables = environment::variables(&setting.places, policy, setting.inherit).map_err(SlotError::Policy)?;
        Slot::open(setting, &setting.allowance.at_most(policy), variables, &self.outside)
    }

    fn answer(
        &mut self,
        setting: &Setting,
        slot: &mut Slot,
        editor: &mut Editor,
        request: Request,
    ) -> Result<(), Failure> {
        match request {
            Request::Hello { .. } => Err(Stop::Broken(SessionError::Protocol("a second greeting".to_owned())).into()),
            Request::Put { tree } => {
                *editor = Editor::default();
                let mut stream = DataReader::new(&mut self.input);
                let put = slot.put(&tree, &mut stream, &self.outside);
                stream.finish()?;
                let (written, setup_output) = put?;
                Ok(self.say(&Answer::Put { written, setup_output })?)
            }
            Request::Exec { command, timeout_ms, max_output } => {
                let timeout = Duration::from_millis(timeout_ms).min(LONGEST);
                let executed = slot.execute(&command, timeout, max_output.min(MOST_OUTPUT), &self.outside)?;
                let elapsed_ms = u64::try_from(executed.elapsed.as_millis()).unwrap_or(u64::MAX);
                let (end, output, cut_bytes) = (executed.end, executed.output, executed.cut_bytes);
                Ok(self.say(&Answer::Executed { end, output, cut_bytes, elapsed_ms })?)
            }
            Request::Edit { operation, max_chars } => {
                let workspace = Workspace { dir: slot.files.workspace(), path: &setting.places.workspace };
                let answer = match editor.run(workspace, &operation, max_chars.min(MOST_SHOWN)) {
                    Ok(output) => Answer::Edited { output, done: true },
                    Err(refusal) => Answer::Edited { output: refusal.to_string(), done: false },
                };
                Ok(self.say(&answer)?)
            }
            Request::Changed => {
                let changes = slot.changes()?;
                self.say(&Answer::Changed { files: changes.files })?;
                let mut stream = DataWriter::new(&mut self.output);
                for content in &changes.contents {
                    stream.write_all(content).map_err(FrameError::Io)?;
                }
                Ok(stream.finish()?)
            }
            Request::Wipe => {
                *editor = Editor::default();
                let restored = slot.wipe()?;
                Ok(self.say(&Answer::Wiped { restored })?)
            }
        }
    }

    /// Tells what went wrong, and stops unless the slot can still be used.
    fn finish(&mut self, slot: &mut Slot, error: &SlotError) -> Result<(), Stop> {
        let _ = slot.end_all();
        if matches!(error, SlotError::Ending(_)) {
            return Err(Stop::Ended);
        }
        self.fail(error.fault(), error.to_string(), true)?;
        Err(Stop::Broken(SessionError::Slot(error.to_string())))
    }

    fn refuse(&mut self, message: String) -> Result<Option<Slot>, Stop> {
        self.fail(Fault::Protocol, message.clone(), true)?;
        Err(Stop::Broken(SessionError::Protocol(message)))
    }

    fn fail(&mut self, fault: Fault, message: String, fatal: bool) -> Result<(), FrameError> {
        self.say(&Answer::Failed { fault, message, fatal })
    }

    fn say(&mut self, answer: &Answer) -> Result<(), FrameError> {
        frame::write_message(&mut self.output, answer)
    }
}

/// Why a request could not be answered.
enum Failure {
    Stop(Stop),
    Slot(SlotError),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        Self::Stop(error.into())
    }
}

impl From<SlotError> for Failure {
    fn from(error: SlotError) -> Self {
        Self::Slot(error)
    }
}
