//! A slot without a container around it: namespaces of its own, where the kernel gives them, so that it sees its files at the same paths as in a pod,
//! its processes alone, and nothing of the driver's.

mod root;

pub(crate) use root::SHARED_MEMORY;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, getegid, geteuid};

use crate::environment;
use crate::places::Places;

/// The exit code that says that there are no namespaces here, and nothing has been read yet.
const NO_NAMESPACES: u8 = 70;
/// Whom commands are, where the driver is root: they must not take themselves for it.
const NOBODY_SPECIAL: u32 = 1000;
/// What people keep in their HOME and mean for nobody else.
const SECRETS: [&str; 13] = [
    ".ssh",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".gnupg",
    ".netrc",
    ".git-credentials",
    ".npmrc",
    ".pypirc",
    ".config/gcloud",
    ".config/gh",
    ".cargo/credentials.toml",
];
/// What only root may read, and a driver that is root could.
const SECRETS_OF_ROOT: [&str; 6] =
    ["/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh", "/etc/kubernetes", "/var/lib/kubelet"];

/// Why the namespaces cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// The kernel gives none.
    #[error("the kernel gives no {what}: {source}")]
    Namespace {
        /// Which.
        what: &'static str,
        /// Why not.
        source: Errno,
    },
    /// Users cannot be mapped.
    #[error("users cannot be mapped to the namespace: {0}")]
    Map(#[source] io::Error),
    /// A mount failed.
    #[error("cannot {action} {path}: {source}")]
    Mount {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Root's processes could neither be told apart nor limited.
    #[error(
        "root runs commands in namespaces of their own only, and this kernel gives none: be another user, or use a container"
    )]
    Root,
    /// The program cannot be started again.
    #[error("cannot start in the namespaces: {0}")]
    Start(#[source] io::Error),
}

impl LocalError {
    fn mount(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Mount { action, path: path.to_owned(), source }
    }
}

/// Runs this program again with the same arguments as the first process of namespaces of its own. Answers how that ended; none where there are no
/// namespaces.
pub(crate) fn in_namespaces(folder: &Path) -> Result<Option<ExitCode>, LocalError> {
    for path in ["workspace", "tmp", "home"].map(|name| folder.join(name)) {
        fs::create_dir_all(&path).map_err(LocalError::mount("make", &path))?;
    }
    let status = again(Step::Enter).status().map_err(LocalError::Start)?;
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(NO_NAMESPACES) if geteuid().is_root() => Err(LocalError::Root),
        Some(NO_NAMESPACES) => Ok(None),
        Some(code) => Ok(Some(ExitCode::from(code))),
        None => Ok(Some(ExitCode::FAILURE)),
    }
}

/// Where a process stands on the way into the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Outside, and none is wanted or it was not tried yet.
    Outside,
    /// It makes the namespaces, and starts their first process.
    Enter,
    /// It is the first process of the namespaces.
    Inside,
}

/// Tells a process that this program starts where it stands.
const STEP: &str = "SERA_SANDBOX_STEP";

impl Step {
    pub(crate) fn of_this_process() -> Self {
        match env::var(STEP).as_deref() {
            Ok("enter") => Self::Enter,
            Ok("inside") => Self::Inside,
            _ => Self::Outside,
        }
    }
}

fn again(step: Step) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(env::args_os().skip(1)).stdin(Stdio::inherit());
    if step == Step::Inside {
        // Nothing of the driver's is in memory there.
        command.env_clear().envs(environment::harmless());
    }
    command.env(STEP, if step == Step::Enter { "enter" } else { "inside" });
    command
}

/// Makes the namespaces, and runs this program in them to its end.
pub(crate) fn enter(places: &Places, folder: &Path) -> ExitCode {
    match make(places, folder).and_then(|()| again(Step::Inside).status().map_err(LocalError::Start)) {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            eprintln!("sera-sandbox: no namespaces of its own for this slot: {error}");
            ExitCode::from(NO_NAMESPACES)
        }
    }
}

fn make(places: &Places, folder: &Path) -> Result<(), LocalError> {
    end_with_parent()?;
    let hidden = hidden(&places.hidden);
    let all = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC;
    enter_user_namespace(all, 0, 0)?;
    root::make(places, folder, &hidden)
}

/// Makes what is left to the first process of the namespaces.
pub(crate) fn arrive() -> Result<(), LocalError> {
    end_with_parent()?;
    root::mount_proc()
}

/// The user and group that commands are in a user namespace of their own; none in a container, which is one already, and where there are none.
pub(crate) fn user_of_commands(step: Step) -> Result<Option<(u32, u32)>, LocalError> {
    let not_root = |id: u32| if id == 0 { NOBODY_SPECIAL } else { id };
    match step {
        Step::Inside => {
            // Here this process is root; whom the driver started it as, the map of its namespace tells.
            let map = |file: &str| fs::read_to_string(file).map_err(LocalError::Map);
            let outer = |text: String| text.split_ascii_whitespace().nth(1).and_then(|id| id.parse().ok()).unwrap_or(0);
            Ok(Some((not_root(outer(map("/proc/self/uid_map")?)), not_root(outer(map("/proc/self/gid_map")?)))))
        }
        _ if std::process::id() == 1 || !works() => Ok(None),
        _ => Ok(Some((not_root(geteuid().as_raw()), not_root(getegid().as_raw())))),
    }
}

/// Puts this process into a user namespace where it is the given user, and into what else is asked for. Unless that user is root, its next program
/// has no capability there or anywhere.
pub(crate) fn enter_user_namespace(namespaces: CloneFlags, user: u32, group: u32) -> Result<(), LocalError> {
    let (outer_user, outer_group): (Uid, Gid) = (geteuid(), getegid());
    unshare(namespaces | CloneFlags::CLONE_NEWUSER)
        .map_err(|source| LocalError::Namespace { what: "namespaces", source })?;
    let write = |file: &str, text: String| fs::write(format!("/proc/self/{file}"), text).map_err(LocalError::Map);
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{user} {outer_user} 1"))?;
    write("gid_map", format!("{group} {outer_group} 1"))
}

fn end_with_parent() -> Result<(), LocalError> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|source| LocalError::Namespace { what: "signal at its parent's end", source })
}

/// What commands are not to read: what the driver says, and what its user would not want read.
pub(crate) fn hidden(said: &[PathBuf]) -> Vec<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let secrets = home.iter().flat_map(|home| SECRETS.map(|name| home.join(name)));
    let of_root = SECRETS_OF_ROOT.iter().map(PathBuf::from).filter(|_| geteuid().is_root());
    let hidden = said.iter().cloned().chain(secrets).chain(of_root);
    // By the path that leads there over no link; what is not there need not be hidden.
    hidden.filter_map(|path| path.canonicalize().ok()).collect()
}

/// Whether the kernel gives namespaces to this user.
pub(crate) fn works() -> bool {
    let mut command = Command::new("/proc/self/exe");
    let tried = command.arg("check-namespaces").stdin(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// Tries it on this process.
pub(crate) fn try_namespaces() -> Result<(), LocalError> {
    let all = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC;
    enter_user_namespace(all, 0, 0)?;
    root::make_private()
}
