//! Waiting for sockets without turning in circles. Who reads what comes is not said here.

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollTimeout, poll};

/// Waits until one of them is as it was asked for, or has failed; at most so long where that is said. A signal may end it early.
pub(super) fn wait(fds: &mut [PollFd<'_>], longest: Option<Duration>) -> io::Result<()> {
    // Rounded up: a wait that ends a moment too early is begun again, and again.
    let timeout = longest.map_or(PollTimeout::NONE, |longest| {
        PollTimeout::try_from(longest.saturating_add(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX)
    });
    match poll(fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether there is something to do for it: to read, to write, or to be told that it has failed.
pub(super) fn is_ready(fd: &PollFd<'_>) -> bool {
    fd.any().unwrap_or(true)
}

/// How long it is until then.
pub(super) fn until(then: Instant) -> Duration {
    then.saturating_duration_since(Instant::now())
}
