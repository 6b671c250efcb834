//! Has cargo build the programs that go into images. Whoever runs the demo has run cargo already: this only builds what that left out, with the
//! same profile and features.

use std::env;
use std::io;
use std::process::ExitStatus;

use tokio::process::Command;

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Why the programs are not there.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// cargo could not be run.
    #[error("cannot run cargo")]
    Run(#[source] io::Error),
    /// cargo failed, and has said why on standard error.
    #[error("`cargo build --workspace --bins` ended with {0}: see above")]
    Failed(ExitStatus),
}

/// Builds every program of the workspace; cargo itself shows how far it is.
pub(super) async fn build() -> Result<(), BuildError> {
    // Set by `cargo run`, so that the same toolchain is used.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--workspace", "--bins"]).current_dir(WORKSPACE).status().await;
    match status.map_err(BuildError::Run)? {
        status if status.success() => Ok(()),
        status => Err(BuildError::Failed(status)),
    }
}
