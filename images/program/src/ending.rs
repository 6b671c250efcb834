//! How a command ends: a termination message, an exit code, a line on standard output, and what happens when it is told to stop, takes too long, or was
//! asked for in a wrong way.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::error::ErrorKind;
use sera_crds::contract::{ExitCode, Failure, FailureClass, Outcome, StageResult, Termination};
use sera_crds::values::Timeout;
use tokio::signal::unix::{SignalKind, signal};

use crate::logs::LogArgs;
use crate::redact::Redactor;

/// What the help of a stage says of its exit codes.
pub const EXIT_CODES: &str = "Exit codes:
    0  done: the stage's manifest is in the store, and standard output has the result as a line of JSON
    1  internal error; worth another try
    2  the command line is wrong
   10  something given is wrong or missing: a URL, a revision, a credential, a certificate
   11  something outside is not available for now: a host, a store, space; try again later
   12  the store holds something else than would be written; nothing was touched
  143  stopped by SIGTERM or SIGINT; run it again and it goes on";

/// What every command can be told of its end and of its log.
#[derive(Debug, Args)]
pub struct EndingArgs {
    /// Where the termination message goes: one line of JSON, also when the command fails
    #[arg(long, global = true, env = "SERA_TERMINATION_MESSAGE", value_name = "PATH")]
    pub termination_message: Option<PathBuf>,
    /// Its log.
    #[command(flatten)]
    pub log: LogArgs,
    /// When to give the whole command up, such as 90m [default: 2h; rollout: never]
    #[arg(long, global = true, env = "SERA_TIMEOUT", value_name = "DURATION")]
    pub timeout: Option<Timeout>,
}

/// How a command ended.
pub struct Ending {
    /// The exit code.
    pub code: ExitCode,
    /// The termination message.
    pub outcome: Outcome,
}

impl Ending {
    /// The end of a command that failed.
    pub fn failed(failure: Failure) -> Self {
        Self { code: failure.class.into(), outcome: Outcome::Failed(failure) }
    }
}

/// Runs a stage to its end, to its limit, or until somebody stops it. A stage that is given up is dropped, and what it started ends with it.
pub async fn conduct(stage: impl Future<Output = Result<StageResult, Failure>>, limit: Duration) -> Ending {
    tokio::select! {
        biased;
        name = stopped() => Ending {
            code: ExitCode::Interrupted,
            outcome: Outcome::Failed(Failure {
                class: FailureClass::Unavailable,
                reason: "Interrupted".to_owned(),
                field: None,
                message: format!("stopped by {name} before it was done: run it again and it goes on"),
            }),
        },
        outcome = tokio::time::timeout(limit, stage) => match outcome {
            Ok(Ok(result)) => Ending { code: ExitCode::Success, outcome: Outcome::Succeeded(result) },
            Ok(Err(failure)) => Ending::failed(failure),
            Err(_) => Ending::failed(Failure {
                class: FailureClass::Unavailable,
                reason: "TimedOut".to_owned(),
                field: None,
                message: format!("it was not done within {} s: run it again, or allow more with --timeout", limit.as_secs()),
            }),
        },
    }
}

/// Waits until the process is told to stop, and says how.
async fn stopped() -> &'static str {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        },
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!("signals cannot be caught, and end the program at once: {error}");
            std::future::pending().await
        }
    }
}

/// Tells the operator, the log and standard output how the command ended.
pub fn end(ending: Ending, message: Option<&Path>, redactor: &Redactor) -> ExitCode {
    let termination = match ending.outcome {
        Outcome::Succeeded(result) => {
            tracing::info!(?result, "done");
            Termination::succeeded(result)
        }
        Outcome::Failed(mut failure) => {
            failure.message = redactor.apply(&failure.message);
            let field = failure.field.as_deref().unwrap_or_default();
            tracing::error!(class = ?failure.class, reason = failure.reason, field, "{}", failure.message);
            Termination::failed(failure)
        }
    };
    let json = termination.to_json();
    if ending.code == ExitCode::Success
        && let Err(error) = writeln!(std::io::stdout(), "{json}")
    {
        tracing::warn!("the result cannot be printed: {error}");
    }
    leave(message, &json);
    ending.code
}

/// Writes a termination message, in JSON; losing it loses nothing that the store does not have.
pub fn leave(path: Option<&Path>, json: &str) {
    let Some(path) = path else { return };
    if let Err(error) = std::fs::write(path, json) {
        tracing::warn!(path = %path.display(), "the termination message cannot be written: {error}");
    }
}

/// Says what is wrong with the command line, or gives the help that was asked for.
pub fn misused(error: &clap::Error) -> ExitCode {
    // It goes to standard error or standard output as is right; there is no third place to complain to if that is closed.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return ExitCode::Success,
        _ => {}
    }
    let text = error.to_string();
    let sentence = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let failure = Failure {
        class: FailureClass::Configuration,
        reason: "InvalidArguments".to_owned(),
        field: None,
        message: format!("the command line is wrong: {sentence}"),
    };
    leave(termination_message(std::env::args_os()).as_deref(), &Termination::failed(failure).to_json());
    ExitCode::Usage
}

/// Where the termination message goes, as far as a wrong command line lets one tell.
fn termination_message(arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    const FLAG: &str = "--termination-message";
    let mut arguments = arguments.skip_while(|argument| !argument.to_string_lossy().starts_with(FLAG));
    let found = arguments.next().and_then(|argument| match argument.to_str()?.split_once('=') {
        Some((_, path)) => Some(OsString::from(path)),
        None => arguments.next(),
    });
    found.or_else(|| std::env::var_os("SERA_TERMINATION_MESSAGE")).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_still_says_where_its_message_goes() {
        let found = |line: &str| termination_message(line.split(' ').map(OsString::from));
        assert_eq!(found("snapshot --termination-message /m --wrong"), Some("/m".into()));
        assert_eq!(found("snapshot --wrong --termination-message=/m"), Some("/m".into()));
        assert_eq!(found("snapshot --wrong"), None);
    }

    #[tokio::test]
    async fn a_stage_that_takes_too_long_is_given_up_and_worth_another_try() {
        let ending = conduct(std::future::pending(), Duration::from_millis(10)).await;
        assert_eq!(ending.code, ExitCode::Unavailable);
        assert!(matches!(ending.outcome, Outcome::Failed(Failure { reason, .. }) if reason == "TimedOut"));
    }
}
