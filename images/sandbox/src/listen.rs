//! A unix socket that takes one driver and is gone while that is served.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The owner and the group: the driver is of the group, whatever its user is.
const MODE: u32 = 0o660;

/// Waits for the driver; none where this process is asked to end before one came.
pub(crate) fn accept(path: &Path) -> io::Result<Option<UnixStream>> {
    // What a program that was killed has left.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Before there is a socket: whoever sees it may ask this process to end at once.
    let endings = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    endings.thread_block()?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    let signals = SignalFd::with_flags(&endings, SfdFlags::SFD_CLOEXEC)?;
    let mut polled =
        [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    while poll(&mut polled, PollTimeout::NONE).is_err() {}
    let asked_to_end = polled[1].any().unwrap_or(false);
    let accepted = if asked_to_end { None } else { Some(listener.accept()?.0) };
    // Before anything is executed: no command ever finds it.
    fs::remove_file(path)?;
    Ok(accepted)
}

/// Leaves a mark beside the socket, for the next driver, whether this program is started again before it comes or not; whether there was none. Commands
/// cannot write there.
pub(crate) fn mark_used(socket: &Path) -> io::Result<bool> {
    match File::create_new(socket.with_extension("used")) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
