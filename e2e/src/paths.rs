//! Where things lie on this machine: what is kept between clusters (programs, images), what a cluster makes while it lives, and the workspace's own
//! programs. What is in those folders is the business of the modules that fill them.

use std::env;
use std::path::{Path, PathBuf};

/// Overrides the folder for what is built once and kept.
pub const CACHE_VARIABLE: &str = "SERA_CACHE_DIR";
/// Overrides the folder for the state of running clusters.
pub const STATE_VARIABLE: &str = "SERA_STATE_DIR";

/// The folder's name under the user's cache and state folders.
const PROJECT: &str = "sera-operator";

/// Why there is no such place.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// Neither the override nor a home directory is there.
    #[error("no place for {what}: set {variable} to a folder, or HOME")]
    NoHome {
        /// What the folder is for.
        what: &'static str,
        /// The variable that names it.
        variable: &'static str,
    },
    /// A relative path would mean another folder for each caller.
    #[error("{variable} must be an absolute path, but is {value:?}")]
    Relative {
        /// The variable that holds the path.
        variable: &'static str,
        /// What it holds.
        value: PathBuf,
    },
    /// The system does not say which program this is.
    #[error("the running program is not to be found")]
    Running(#[source] std::io::Error),
    /// Cargo has not built the program.
    #[error("{path} is not there: build the programs first, with `cargo build --workspace --bins`")]
    NotBuilt {
        /// Where it was looked for.
        path: PathBuf,
    },
}

/// A program of the workspace, beside the running one. It is never built from here: cargo is what called, and would wait for itself.
pub fn program(name: &str) -> Result<PathBuf, PathError> {
    let running = env::current_exe().map_err(PathError::Running)?;
    let path = beside(&running).join(name);
    if path.is_file() { Ok(path) } else { Err(PathError::NotBuilt { path }) }
}

/// Cargo's folder of programs: tests and benches lie one deeper, in `deps`.
fn beside(running: &Path) -> &Path {
    let folder = running.parent().unwrap_or(running);
    if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder }
}

/// The folder for what is built once and kept: `$SERA_CACHE_DIR`, else `$XDG_CACHE_HOME/sera-operator`, else
/// `~/.cache/sera-operator`.
pub fn cache_root() -> Result<PathBuf, PathError> {
    choose("built programs", CACHE_VARIABLE, "XDG_CACHE_HOME", ".cache")
}

/// The folder for the state of running clusters: `$SERA_STATE_DIR`, else `$XDG_STATE_HOME/sera-operator`, else
/// `~/.local/state/sera-operator`.
pub fn state_root() -> Result<PathBuf, PathError> {
    choose("the state of clusters", STATE_VARIABLE, "XDG_STATE_HOME", ".local/state")
}

fn choose(what: &'static str, own: &'static str, xdg: &str, under_home: &str) -> Result<PathBuf, PathError> {
    if let Some(folder) = non_empty(own) {
        if folder.is_absolute() {
            return Ok(folder);
        }
        return Err(PathError::Relative { variable: own, value: folder });
    }
    // The base directory specification has relative values ignored.
    let base = non_empty(xdg).filter(|folder| folder.is_absolute());
    let base = base.or_else(|| non_empty("HOME").map(|home| home.join(under_home)));
    base.map(|base| base.join(PROJECT)).ok_or(PathError::NoHome { what, variable: own })
}

fn non_empty(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_lie_beside_programs_and_above_tests() {
        assert_eq!(beside(Path::new("/t/debug/sera-e2e")), Path::new("/t/debug"));
        assert_eq!(beside(Path::new("/t/debug/deps/node-0123")), Path::new("/t/debug"));
    }
}
