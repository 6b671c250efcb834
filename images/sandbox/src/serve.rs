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
use crate::outside::{Ending, Outside};
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

/// Serves one driver to its end, after which nothing runs in the slot.
pub(crate) fn serve(setting: &Setting, input: File, output: File) -> Result<Ending, SessionError> {
    let peer = input.try_clone().map_err(SessionError::Connection)?;
    let outside = Outside::new(peer)?;
    let mut session = Session { input: BufReader::new(input), output, outside };
    match session.run(setting) {
        Stop::Broken(error) => Err(error),
        Stop::Ended(ending) => Ok(ending),
    }
}

/// Why a session stops.
enum Stop {
    Ended(Ending),
    Broken(SessionError),
}

impl From<Ending> for Stop {
    fn from(ending: Ending) -> Self {
        Self::Ended(ending)
    }
}

impl From<FrameError> for Stop {
    fn from(error: FrameError) -> Self {
        match error {
            // The driver is a process that may be killed at any time; that is no error of this one.
            FrameError::Io(_) => Self::Ended(Ending::Disconnected),
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
    fn run(&mut self, setting: &Setting) -> Stop {
        let mut slot = match self.greet(setting) {
            Ok(slot) => slot,
            Err(stop) => return stop,
        };
        let stop = match self.converse(setting, &mut slot) {
            Failure::Stop(stop) => stop,
            Failure::Slot(error) => self.tell(&error),
        };
        match (slot.end_all(), stop) {
            (Err(survivors), Stop::Ended(_)) => Stop::Broken(SessionError::Slot(survivors.to_string())),
            (_, stop) => stop,
        }
    }

    /// Answers one request after the other, until something stops that.
    fn converse(&mut self, setting: &Setting, slot: &mut Slot) -> Failure {
        let mut editor = Editor::default();
        loop {
            match self.answer_next(setting, slot, &mut editor) {
                Err(Failure::Slot(error)) if !error.is_fatal() => {
                    if let Err(error) = self.fail(error.fault(), error.to_string(), false) {
                        return error.into();
                    }
                }
                Err(failure) => return failure,
                Ok(()) => {}
            }
        }
    }

    fn answer_next(&mut self, setting: &Setting, slot: &mut Slot, editor: &mut Editor) -> Result<(), Failure> {
        if self.input.buffer().is_empty() {
            slot.idle(&self.outside)?;
        }
        let request = self.next()?;
        self.answer(setting, slot, editor, request)
    }

    fn next(&mut self) -> Result<Request, Stop> {
        match frame::read_message(&mut self.input) {
            Ok(Some(request)) => Ok(request),
            Ok(None) | Err(FrameError::Io(_)) => Err(Ending::Disconnected.into()),
            Err(error) => {
                let message = error.to_string();
                self.fail(Fault::Protocol, message.clone(), true)?;
                Err(Stop::Broken(SessionError::Protocol(message)))
            }
        }
    }

    /// Hears what must hold, and makes a slot of that kind.
    fn greet(&mut self, setting: &Setting) -> Result<Slot, Stop> {
        // A child that ends is heard of too.
        while !self.outside.wait(&[], &[], true, None)?.request {}
        let policy = match self.next()? {
            Request::Hello { protocol: PROTOCOL, policy } => policy,
            Request::Hello { protocol, .. } => {
                return Err(
                    self.refuse(format!("the driver speaks version {protocol} of the protocol, this is {PROTOCOL}"))
                );
            }
            _ => return Err(self.refuse("the first request has to be the greeting".to_owned())),
        };
        let slot = self.make_slot(setting, &policy).map_err(|error| self.tell(&error))?;
        let (places, protections) = (&setting.places, slot.protections());
        let workspace = places.workspace.display().to_string();
        self.say(&Answer::Ready { protocol: PROTOCOL, protections, workspace, shell: slot.shell_path() })?;
        Ok(slot)
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

    /// Tells the driver what is wrong with its slot, unless it has gone.
    fn tell(&mut self, error: &SlotError) -> Stop {
        if let SlotError::Ending(ending) = error {
            return (*ending).into();
        }
        match self.fail(error.fault(), error.to_string(), true) {
            Ok(()) => Stop::Broken(SessionError::Slot(error.to_string())),
            Err(error) => error.into(),
        }
    }

    fn refuse(&mut self, message: String) -> Stop {
        match self.fail(Fault::Protocol, message.clone(), true) {
            Ok(()) => Stop::Broken(SessionError::Protocol(message)),
            Err(error) => error.into(),
        }
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
