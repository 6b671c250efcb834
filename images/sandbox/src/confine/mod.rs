//! The step between `sera-sandbox` and a shell: the program executes itself as `confine`, takes from itself what commands must not have, and becomes
//! the shell. A process of its own has one thread and no memory of the session, so nothing here is done between fork and exec.

pub(crate) mod landlock;
pub(crate) mod limits;
pub(crate) mod seccomp;

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, setsid};
use serde::{Deserialize, Serialize};

use crate::{kernel, local};

/// What a shell and everything that comes of it may do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confinement {
    /// The shell.
    pub(crate) shell: PathBuf,
    /// What it is called with.
    pub(crate) arguments: Vec<String>,
    /// Where it starts.
    pub(crate) workspace: PathBuf,
    /// The directories that may be written to.
    pub(crate) writable: Vec<PathBuf>,
    /// The directories that may not even be read.
    pub(crate) hidden: Vec<PathBuf>,
    /// Whether the network may be used.
    pub(crate) egress: bool,
    /// Whether Landlock has to be there.
    pub(crate) landlock_required: bool,
    /// The largest file, in bytes.
    pub(crate) file_bytes: Option<u64>,
    /// The most processes, where the kernel counts those of this slot alone.
    pub(crate) processes: Option<u32>,
    /// The user and group in a user namespace of the shell's own.
    pub(crate) user: Option<(u32, u32)>,
    /// `sera-sandbox` itself.
    pub(crate) guard: i32,
}

/// Why a shell could not be confined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    /// What was asked for cannot be understood.
    #[error("the confinement cannot be understood: {0}")]
    Arguments(#[from] serde_json::Error),
    /// The workspace cannot be entered.
    #[error("cannot enter {path}: {source}")]
    Workspace {
        /// The workspace.
        path: PathBuf,
        /// Why not.
        source: Errno,
    },
    /// A limit or an attribute of the process was refused.
    #[error("cannot {action}: {source}")]
    Process {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Errno,
    },
    /// No user namespace for the shell.
    #[error(transparent)]
    Local(#[from] local::LocalError),
    /// Landlock is missing, or a directory cannot be named to it.
    #[error(transparent)]
    Landlock(#[from] landlock::LandlockError),
    /// The kernel takes no filter.
    #[error(transparent)]
    Seccomp(#[from] seccomp::SeccompError),
    /// The shell cannot be executed.
    #[error("cannot execute {shell}: {source}")]
    Shell {
        /// The shell.
        shell: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ConfineError {
    fn process(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::Process { action, source }
    }
}

/// Becomes the shell; whatever is returned is why not.
pub(crate) fn become_shell(arguments: &str) -> ConfineError {
    match serde_json::from_str::<Confinement>(arguments) {
        Ok(confinement) => confine(&confinement).map_or_else(|error| error, |()| execute(&confinement)),
        Err(error) => error.into(),
    }
}

fn confine(confinement: &Confinement) -> Result<(), ConfineError> {
    // A session of its own: no terminal can be had, and none of the driver's signals arrive.
    setsid().map_err(ConfineError::process("begin a session"))?;
    umask(Mode::S_IWOTH);
    limits::prefer_as_victim();
    limits::apply(confinement)?;
    if let Some((user, group)) = confinement.user {
        local::enter_user_namespace(CloneFlags::empty(), user, group)?;
    }
    kernel::drop_capabilities().map_err(ConfineError::process("give up capabilities"))?;
    chdir(&confinement.workspace)
        .map_err(|source| ConfineError::Workspace { path: confinement.workspace.clone(), source })?;
    prctl::set_no_new_privs().map_err(ConfineError::process("give up new privileges"))?;
    landlock::apply(confinement)?;
    // Last: what comes before needs calls that it denies.
    seccomp::apply(confinement.egress, confinement.guard)?;
    Ok(())
}

fn execute(confinement: &Confinement) -> ConfineError {
    // It tells its errors behind this name.
    let name = confinement.shell.file_name().unwrap_or(confinement.shell.as_os_str());
    let source = Command::new(&confinement.shell).arg0(name).args(&confinement.arguments).exec();
    ConfineError::Shell { shell: confinement.shell.clone(), source }
}
