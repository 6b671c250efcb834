//! What the servers' command lines have in common: the log, the socket, how they are told to stop and how they end.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sera_program::failure::Explain;
use sera_program::logs::{self, LogFormat, LogLevel};
use sera_program::progress::Progress;
use sera_program::redact::Redactor;
use sera_trainer::bucket::BucketError;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::serve::ModelError;

/// How long what still runs after the server has ended may hold up the process.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// What is logged, and how.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// How log lines look on standard error
    #[arg(long, env = "SERA_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Log each answer as well
    #[arg(long, short)]
    verbose: bool,
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("{0}")]
    Usage(String),
    #[error("the program's threads cannot be started: {0}")]
    Threads(#[source] std::io::Error),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the server failed: {0}")]
    Serve(#[source] std::io::Error),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("{} is no bucket (s3://, gs://, az://): a model in a folder is read where it is", .0.display())]
    NoBucket(PathBuf),
    #[error("{} cannot be made: {source}", link.display())]
    Link { link: PathBuf, source: std::io::Error },
    #[error("the model could not be loaded: a mistake in the program")]
    Loading,
    #[error("the model has stopped to answer: a mistake in the program")]
    Stopped,
}

impl ServeError {
    /// How the process ends.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::NoBucket(_) => ExitCode::from(2),
            Self::Model(error) => ExitCode::from(error.exit_code().code()),
            Self::Bucket(error) => sera_crds::contract::ExitCode::from(error.explain().class).into(),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Runs a server on threads of its own.
pub(super) fn block_on(serving: impl Future<Output = Result<(), ServeError>>) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Threads)?;
    let outcome = runtime.block_on(serving);
    runtime.shutdown_timeout(GIVEN_UP);
    outcome
}

/// Listens, and says where, on standard output too.
pub(super) async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    // Scripts and tests read the port here; whoever has closed standard output does not need it.
    let _ = writeln!(std::io::stdout(), "listening on http://{address}");
    Ok((listener, address))
}

/// Serves until the process is told to stop. Answers under way are finished, but for those that take longer than `linger`.
pub(super) async fn until_stopped<S: Future<Output = std::io::Result<()>>>(
    linger: Duration,
    serve: impl FnOnce(Stop) -> S,
    stopping: impl FnOnce(),
) -> Result<(), ServeError> {
    let (stop, told) = oneshot::channel::<()>();
    let server = serve(Box::pin(async { drop(told.await) }));
    tokio::pin!(server);
    tokio::select! {
        outcome = &mut server => return outcome.map_err(ServeError::Serve),
        () = stopped() => drop(stop),
    }
    stopping();
    if let Ok(outcome) = tokio::time::timeout(linger, server).await {
        return outcome.map_err(ServeError::Serve);
    }
    tracing::warn!(seconds = linger.as_secs(), "answers that were not finished in time are cut off");
    Ok(())
}

/// Done when the server is to stop.
pub(super) type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits until the process is told to stop.
async fn stopped() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!("signals cannot be caught, and end the program at once: {error}");
            std::future::pending::<()>().await;
        }
    }
}

/// Starts the log, without what `redactor` hides.
pub(super) fn start_log(arguments: &LogArgs, redactor: &Redactor) {
    let level = if arguments.verbose { LogLevel::Debug } else { LogLevel::Info };
    logs::start(arguments.log_format, level, Progress::detect().bars(), redactor.clone());
}

/// A time, such as 250ms, 5s or 2m.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| format!("\"{text}\" is no duration: write 250ms, 5s or 2m"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(format!("\"{text}\" has no unit that is known: write 250ms, 5s or 2m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), duration("120s"));
        assert!(duration("2").is_err() && duration("s").is_err());
    }
}
