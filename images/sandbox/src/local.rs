//! Namespaces of the slot's own, where there is no container around it.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

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
}

/// Puts this process into a user namespace where it is the given user. Its next program has no capability there or anywhere.
pub(crate) fn enter_user_namespace(user: u32, group: u32) -> Result<(), LocalError> {
    let (outer_user, outer_group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|source| LocalError::Namespace { what: "user namespace", source })?;
    let write = |file: &str, text: String| fs::write(format!("/proc/self/{file}"), text).map_err(LocalError::Map);
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{user} {outer_user} 1"))?;
    write("gid_map", format!("{group} {outer_group} 1"))
}

/// Whether the kernel gives namespaces to this user.
pub(crate) fn works() -> bool {
    // On a thread of its own only what concerns that thread could be tried, and a user namespace concerns all: so by another process.
    let tried = std::process::Command::new("/proc/self/exe").arg("confine").arg("{}").output();
    tried.is_ok()
}
