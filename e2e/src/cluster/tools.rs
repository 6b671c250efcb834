//! Running the command-line tools of Kubernetes against a cluster. Which cluster, and which program, the caller says.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::programs::ProgramError;

/// Why a tool did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The tool could not be had.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The tool could not be run.
    #[error("cannot run {tool}: put it on the PATH")]
    Run {
        /// The tool.
        tool: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The tool said no.
    #[error("`{tool} {arguments}` ended with {status}: {complaint}")]
    Failed {
        /// The tool.
        tool: String,
        /// What it was told.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said on standard error.
        complaint: String,
    },
}

/// Runs a tool with a kubeconfig and some input; what it printed is the result.
pub(super) async fn run<S: AsRef<OsStr>>(
    tool: &Path,
    kubeconfig: &Path,
    arguments: impl IntoIterator<Item = S>,
    input: &[u8],
) -> Result<String, ToolError> {
    let name = || tool.file_name().unwrap_or(tool.as_os_str()).to_string_lossy().into_owned();
    let failed = |source| ToolError::Run { tool: name(), source };
    let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
    let mut command = Command::new(tool);
    command.args(&arguments).env("KUBECONFIG", kubeconfig);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Ctrl-C is not for them: a helm that is cut off in the middle leaves a release that no other helm will touch.
    command.process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A tool that does not read its input closes it: its exit says whether that was right.
            drop(stdin.write_all(input).await);
        }
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    Err(ToolError::Failed {
        tool: name(),
        arguments: arguments.join(" "),
        status: output.status,
        complaint: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
