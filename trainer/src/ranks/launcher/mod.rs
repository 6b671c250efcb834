//! Starts the ranks of one node as processes, tells each where it stands, and sees to it that they end together. What a rank does is not known here.
//!
//! No rank outlives its launcher: each asks the kernel, before anything else, to be killed when the launcher dies (`follow`), so that this holds
//! even where the launcher is killed and can do nothing.

mod crew;
mod relay;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid};

use super::Master;
use crew::Crew;

/// Tells a rank which process launched it.
const LAUNCHER: &str = "SERA_LAUNCHER";

/// Say how many threads candle and rayon compute with. By themselves each rank would take as many as there are processors; candle's wait for each other
/// in loops, so that ranks which share processors would spend most of their time waiting.
const THREADS: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

/// What is launched on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// How many ranks on each node.
    pub ranks_per_node: usize,
    /// How many nodes.
    pub nodes: usize,
    /// Which of them this is, from 0.
    pub node: usize,
    /// Where rank 0 listens.
    pub master: Master,
    /// What tells this job from others, if this launcher has to say it.
    pub job: Option<String>,
}

/// Why ranks could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// One did not start.
    #[error("rank {rank} did not start ({program}): {source}")]
    Start {
        /// Which.
        rank: usize,
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The launcher cannot take signals.
    #[error("signals cannot be waited for: {0}")]
    Signals(#[from] Errno),
    /// The launcher cannot wait.
    #[error("the ranks cannot be waited for: {0}")]
    Wait(io::Error),
}

impl Launch {
    /// Starts the ranks and waits for all to end: with the code of the first that failed, or 0. What they write to standard error is passed on with
    /// their numbers before. SIGTERM, SIGINT and SIGHUP are passed on to them; where one fails without that, the others get SIGTERM, and SIGKILL
    /// after 10 s.
    ///
    /// It belongs on the program's first thread, before others are started.
    pub fn run(&self) -> Result<u8, LaunchError> {
        Crew::start(self)?.see_through()
    }

    /// The command that is this node's rank of this number.
    fn command(&self, local_rank: usize) -> Command {
        let rank = self.rank(local_rank);
        let mut command = Command::new(&self.program);
        let variables = [
            ("RANK", rank),
            ("LOCAL_RANK", local_rank),
            ("WORLD_SIZE", self.nodes * self.ranks_per_node),
            ("LOCAL_WORLD_SIZE", self.ranks_per_node),
            ("MASTER_PORT", self.master.port.into()),
        ];
        command
            .args(&self.arguments)
            .envs(variables.map(|(name, number)| (name, number.to_string())))
            .env("MASTER_ADDR", &self.master.host)
            .env(LAUNCHER, std::process::id().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            // What a terminal sends to all comes from the launcher, once.
            .process_group(0);
        if let Some(job) = &self.job {
            command.env("SERA_RENDEZVOUS_ID", job);
        }
        let unset = THREADS.into_iter().filter(|variable| std::env::var_os(variable).is_none());
        command.envs(unset.map(|variable| (variable, self.threads().to_string())));
        command
    }

    /// How many threads a rank computes with: its share of the processors that this process may use.
    fn threads(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        (processors / self.ranks_per_node.max(1)).max(1)
    }

    fn rank(&self, local_rank: usize) -> usize {
        self.node * self.ranks_per_node + local_rank
    }
}

/// Where this process is a rank that was launched, it is killed when its launcher dies. To be called first of all, on the program's first thread.
///
/// Whether the launcher still lives: it may have died before.
pub fn follow() -> Result<bool, Errno> {
    let Some(launcher) = std::env::var(LAUNCHER).ok().and_then(|pid| pid.parse().ok()) else { return Ok(true) };
    // The launcher keeps its signals for itself, and what it starts inherits that.
    SigSet::from_iter(crew::SIGNALS).thread_unblock()?;
    set_pdeathsig(Signal::SIGKILL)?;
    Ok(getppid() == Pid::from_raw(launcher))
}
