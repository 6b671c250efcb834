//! The kernel's own limits of a process. What it does not count for a slot as a whole is policed elsewhere.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{ConfineError, Confinement};

/// The most open files of a process: what distributions give their users.
const OPEN_FILES: u64 = 65_536;

/// Sets the limits. They are inherited, and cannot be raised again.
pub(crate) fn apply(confinement: &Confinement) -> Result<(), ConfineError> {
    // A core may be piped to a program of the host.
    at_most(Resource::RLIMIT_CORE, 0)?;
    at_most(Resource::RLIMIT_NOFILE, OPEN_FILES)?;
    at_most(Resource::RLIMIT_MEMLOCK, 64 << 20)?;
    at_most(Resource::RLIMIT_MSGQUEUE, 0)?;
    if let Some(bytes) = confinement.file_bytes {
        at_most(Resource::RLIMIT_FSIZE, bytes)?;
    }
    if let Some(processes) = confinement.processes {
        at_most(Resource::RLIMIT_NPROC, processes.into())?;
    }
    Ok(())
}

fn at_most(resource: Resource, most: u64) -> Result<(), ConfineError> {
    let (_, hard) = getrlimit(resource).map_err(ConfineError::process("read a limit"))?;
    let most = most.min(hard);
    setrlimit(resource, most, most).map_err(ConfineError::process("set a limit"))
}

/// Makes the kernel, when it has to end something for want of memory, end a command and not `sera-sandbox`. Where it cannot be said, the policing of
/// memory is all there is.
pub(crate) fn prefer_as_victim() {
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
}
