//! What may happen at any time: the driver goes away, the pod is to end, a process ends.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::Pid;

use crate::processes::{Scope, reap};

/// Why the session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ending {
    /// The driver closed the connection.
    #[error("the driver has gone")]
    Disconnected,
    /// A signal asks for it.
    #[error("asked to end")]
    Terminated,
}

/// The driver's connection and the signals.
pub(crate) struct Outside {
    peer: File,
    signals: SignalFd,
    /// Whether this is the first process of a PID namespace.
    is_first: bool,
}

/// What was heard of.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Which children ended.
    pub(crate) ended: Vec<Pid>,
    /// Whether the driver has said something.
    pub(crate) request: bool,
}

impl Outside {
    /// Takes the signals of this process. No other thread may have been started, or it would get them.
    pub(crate) fn new(peer: File) -> Result<Self, Errno> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD]);
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { peer, signals, is_first: Scope::of_this_process() == Scope::Namespace })
    }

    /// Whether a signal comes from whoever may ask for an end. As the first process of a container this one can tell: who is not in its namespace has no
    /// number in it, and all others are commands, which only newer kernels keep from signalling it. A sender may choose what it says of itself, but then
    /// the code is below zero.
    fn is_from_outside(&self, signal: &siginfo) -> bool {
        !self.is_first || (signal.ssi_pid == 0 && signal.ssi_code >= 0)
    }

    /// Waits until something can be read from one of `readers`, written to one of `writers`, or is heard of; at most until then. `request` says
    /// whether the driver's next request is waited for too.
    pub(crate) fn wait(
        &self,
        readers: &[BorrowedFd<'_>],
        writers: &[BorrowedFd<'_>],
        request: bool,
        until: Option<Instant>,
    ) -> Result<News, Ending> {
        let of_peer = if request { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut polled =
            vec![PollFd::new(self.peer.as_fd(), of_peer), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        polled.extend(readers.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
        polled.extend(writers.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLOUT)));
        // Only a signal interrupts it, and those that matter are read below.
        let _ = poll(&mut polled, timeout(until));
        let peer = polled[0].revents().unwrap_or(PollFlags::empty());
        let signalled = polled[1].any().unwrap_or(false);
        // A request that was sent before the driver went is not worth answering.
        if peer.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Err(Ending::Disconnected);
        }
        let mut news = News { ended: Vec::new(), request: peer.contains(PollFlags::POLLIN) };
        if signalled {
            while let Ok(Some(signal)) = self.signals.read_signal() {
                if signal.ssi_signo != Signal::SIGCHLD as u32 && self.is_from_outside(&signal) {
                    return Err(Ending::Terminated);
                }
            }
            news.ended = reap().ended;
        }
        Ok(news)
    }
}

fn timeout(until: Option<Instant>) -> PollTimeout {
    // Rounded up: a wait that ends too early is done again at once, a thousand times.
    let left = until.map(|until| until.saturating_duration_since(Instant::now()) + Duration::from_micros(999));
    left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))
}
