//! The driver's side of the sandboxes: each a stream to one `sera-sandbox`, which executes what a model wrote. Nothing that comes from there is
//! interpreted here; what becomes of changed files is decided in `checkout`.

mod connection;
mod pool;
mod reach;
mod slot;

use std::path::PathBuf;
use std::time::Duration;

use sera_crds::contract::{FailureClass, RolloutPlan};
use sera_crds::values::{LandlockMode, NetworkMode};
use sera_sandbox::frame::FrameError;
use sera_sandbox::wire::{Fault, Policy};

use crate::failure::{Cause, Explain};

pub(crate) use pool::{Counts, Pool};
pub(crate) use slot::{Changes, Executed, Slot};

/// How long a `setup` may take, where nothing else says so: as long as all commands of a rollout.
fn setup_timeout(plan: &RolloutPlan) -> Duration {
    plan.agent.execution_timeout.span()
}

/// Where the sandboxes are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Processes of this machine, which this program starts: the program, where their folders are made, and what they must not show.
    Local {
        /// `sera-sandbox`.
        program: PathBuf,
        /// A folder that is this command's own.
        folder: PathBuf,
        /// Files and folders that commands must not read.
        hidden: Vec<PathBuf>,
    },
    /// Containers of this pod: slot `n` listens on `<folder>/<n>/socket`.
    Pod {
        /// The folder.
        folder: PathBuf,
        /// How long to wait for all of them to listen.
        patience: Duration,
    },
}

/// Why a sandbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    /// The program does not start.
    #[error("{} cannot be started: {source}; build it, or name it with --sandbox-program", program.display())]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nobody listens.
    #[error("no sandbox listens on {} after {} s: {problem}", socket.display(), waited.as_secs())]
    Absent {
        /// The socket.
        socket: PathBuf,
        /// How long it was waited for.
        waited: Duration,
        /// What the system says.
        problem: String,
    },
    /// The stream broke, or what came is not of the protocol.
    #[error("a sandbox does not speak as it should: {0}")]
    Frame(#[from] FrameError),
    /// It answers something else than it was asked.
    #[error("a sandbox answered something else than it was asked for ({0})")]
    Unexpected(String),
    /// It does not answer.
    #[error("a sandbox gave no answer within {} s", .0.as_secs())]
    Mute(Duration),
    /// It says that it cannot be done.
    #[error("{message}")]
    Failed {
        /// Whose fault it is.
        fault: Fault,
        /// What it says.
        message: String,
        /// Whether the slot must not be used any more.
        fatal: bool,
    },
    /// It has the repository elsewhere than the prompts say.
    #[error(
        "the sandboxes have the repository at {found}, and the plan says {wanted}: set environment.workingDir to it"
    )]
    Elsewhere {
        /// Where it is.
        found: String,
        /// Where it should be.
        wanted: String,
    },
    /// A file of our own cannot be read or written.
    #[error("the scratch folder cannot be used: {0}")]
    Scratch(#[source] std::io::Error),
    /// No slot is left.
    #[error(
        "no sandbox is left that can be used: all {quarantined} failed or would not come clean; the log says why of each"
    )]
    Exhausted {
        /// How many there were.
        quarantined: u32,
    },
}

impl SandboxError {
    /// Whether the slot must not be used any more. What breaks the protocol once is not trusted again.
    pub(crate) fn is_fatal(&self) -> bool {
        !matches!(self, Self::Failed { fatal: false, .. })
    }

    /// Whether every other slot would fail in the same way: what the plan or the image has to put right.
    pub(crate) fn is_everybodys(&self) -> bool {
        matches!(
            self,
            Self::NotStarted { .. }
                | Self::Elsewhere { .. }
                | Self::Exhausted { .. }
                | Self::Failed { fault: Fault::Setup | Fault::Unsupported, .. }
        )
    }
}

impl Explain for SandboxError {
    fn explain(&self) -> Cause {
        let configuration = |reason| Cause { class: FailureClass::Configuration, reason, field: None };
        match self {
            Self::NotStarted { .. } => configuration("SandboxProgramMissing"),
            Self::Elsewhere { .. } => configuration("WorkingDirDiffers"),
            Self::Failed { fault: Fault::Setup, .. } => configuration("SetupFailed"),
            Self::Failed { fault: Fault::Unsupported, .. } => configuration("SandboxUnsupported"),
            Self::Scratch(_) => Cause::unavailable("ScratchFull"),
            Self::Frame(_)
            | Self::Unexpected(_)
            | Self::Mute(_)
            | Self::Failed { .. }
            | Self::Absent { .. }
            | Self::Exhausted { .. } => Cause::unavailable("SandboxUnavailable"),
        }
    }
}

/// What the plan lets commands do, in the sandbox's words.
pub(crate) fn policy(plan: &RolloutPlan) -> Policy {
    Policy {
        egress: plan.sandbox.network == NetworkMode::Egress,
        landlock_required: plan.sandbox.landlock == LandlockMode::Required,
        env: plan.environment.env.clone(),
        setup: plan.environment.setup.clone(),
        setup_timeout_ms: u64::try_from(setup_timeout(plan).as_millis()).unwrap_or(u64::MAX),
        writable_paths: plan.environment.writable_paths.iter().map(ToString::to_string).collect(),
        disk_bytes: plan.sandbox.disk_bytes,
        memory_bytes: plan.sandbox.memory_bytes,
        processes: plan.sandbox.processes,
    }
}
