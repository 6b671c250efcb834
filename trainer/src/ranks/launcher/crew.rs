//! The processes of a launcher: waited for, signalled, and ended together.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use sera_crds::contract::ExitCode;

use super::super::wait::{until, wait};
use super::relay::Relays;
use super::{Launch, LaunchError};

/// What a launcher waits for.
pub(super) const SIGNALS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD];
/// How long after a first failure it is judged which was the first: the kernel tells that a killed rank has ended after it has closed its
/// connections, by which the others know it sooner.
const SETTLING: Duration = Duration::from_millis(300);
/// How often it is looked who has ended, without a signal: whoever started the launcher may have had SIGCHLD ignored, which is inherited.
const LOOK: Duration = Duration::from_secs(1);
/// What `wait` says of a process that ended with code 1.
const UNKNOWN: i32 = 1 << 8;
/// What ranks end with that have lost another.
const LOST: i32 = ExitCode::Unavailable.code() as i32;
/// How long ranks have to end once one has failed. There is nothing left to finish: what the group had begun is lost.
const GRACE: Duration = Duration::from_secs(10);

struct Member {
    rank: usize,
    child: Child,
    status: Option<ExitStatus>,
}

pub(super) struct Crew {
    members: Vec<Member>,
    relays: Relays,
    signals: SignalFd,
    /// Who has failed, in the order in which that was seen.
    failed: Vec<(usize, ExitStatus)>,
    /// When it is judged which was the first.
    judge_at: Option<Instant>,
    /// The code of the first that failed.
    code: Option<u8>,
    /// Whether the ranks were asked to end: then each may take its time, and they end as they do.
    asked: bool,
    /// When those that are left are killed.
    kill_at: Option<Instant>,
}

impl Crew {
    pub(super) fn start(launch: &Launch) -> Result<Self, LaunchError> {
        let signals = SigSet::from_iter(SIGNALS);
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let (members, relays) = (Vec::new(), Relays::default());
        let mut crew = Self {
            members,
            relays,
            signals,
            failed: Vec::new(),
            judge_at: None,
            code: None,
            asked: false,
            kill_at: None,
        };
        for local_rank in 0..launch.ranks_per_node {
            let rank = launch.rank(local_rank);
            // Where one does not start, those before it end with the crew.
            let child = launch.command(local_rank).spawn().map_err(|source| {
                let program = launch.program.display().to_string();
                LaunchError::Start { rank, program, source }
            })?;
            crew.members.push(Member { rank, child, status: None });
            if let Some(stderr) = crew.members.last_mut().and_then(|member| member.child.stderr.take()) {
                crew.relays.add(rank, stderr);
            }
        }
        Ok(crew)
    }

    /// Waits for all to end.
    pub(super) fn see_through(mut self) -> Result<u8, LaunchError> {
        loop {
            self.reap();
            if self.living().next().is_none() {
                self.judge();
                self.relays.finish();
                return Ok(self.code.unwrap_or(0));
            }
            if self.judge_at.is_some_and(|when| until(when).is_zero()) {
                self.judge();
            }
            if self.kill_at.is_some_and(|when| until(when).is_zero()) {
                self.signal(Signal::SIGKILL);
                self.kill_at = None;
            }
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let next = [self.judge_at, self.kill_at].into_iter().flatten().min();
            wait(&mut fds, Some(next.map_or(LOOK, until).min(LOOK))).map_err(LaunchError::Wait)?;
            self.pass_on()?;
        }
    }

    fn living(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.status.is_none())
    }

    fn signal(&self, signal: Signal) {
        for member in self.living() {
            if let Ok(pid) = i32::try_from(member.child.id()) {
                // It has not been waited for, so that the number is still its own.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    /// Passes on the signals that this process got.
    fn pass_on(&mut self) -> Result<(), LaunchError> {
        while let Some(got) = self.signals.read_signal()? {
            let got = SIGNALS.into_iter().find(|signal| u32::try_from(*signal as i32) == Ok(got.ssi_signo));
            if let Some(signal) = got.filter(|signal| *signal != Signal::SIGCHLD) {
                eprintln!("sera-trainer launch: {signal} is passed on to the ranks");
                self.asked = true;
                self.signal(signal);
                // One that was stopped would not hear of it, and nobody kills what was asked to end.
                self.signal(Signal::SIGCONT);
            }
        }
        Ok(())
    }

    /// Notes who has ended.
    fn reap(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.status.is_none()) {
            // Where SIGCHLD is ignored, nobody knows how a process ended.
            let status = member.child.try_wait().unwrap_or_else(|_| Some(ExitStatus::from_raw(UNKNOWN)));
            if let Some(status) = status {
                member.status = Some(status);
                self.failed.extend((!status.success()).then_some((member.rank, status)));
            }
        }
        if !self.failed.is_empty() && self.judge_at.is_none() && self.code.is_none() {
            self.judge_at = Some(Instant::now() + SETTLING);
        }
    }

    /// Names the first that failed, and ends the others. Of those seen together, one that was killed is why the others failed, and then one that ended
    /// with another code than those do that have lost a rank.
    fn judge(&mut self) {
        self.judge_at = None;
        self.failed.sort_by_key(|(_, status)| (status.signal().is_none(), status.code() == Some(LOST)));
        let Some((rank, status)) = self.failed.first().copied().filter(|_| self.code.is_none()) else { return };
        self.code = Some(code_of(status));
        if self.asked || self.living().next().is_none() {
            eprintln!("sera-trainer launch: rank {rank} {}", ending(status));
            return;
        }
        eprintln!("sera-trainer launch: rank {rank} {}; the others are ended", ending(status));
        self.signal(Signal::SIGTERM);
        self.kill_at = Some(Instant::now() + GRACE);
    }
}

impl Drop for Crew {
    /// Whatever happened: nobody stays behind.
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        for member in self.members.iter_mut().filter(|member| member.status.is_none()) {
            let _ = member.child.wait();
        }
    }
}

/// As shells count.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(Ok(signal))) => format!("was ended by {signal}"),
        (None, _) => "was ended by a signal".to_owned(),
    }
}
