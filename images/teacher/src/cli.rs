//! The command line: `rehearse`, how it is told to stop, and how it ends.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::{Behaviour, Shares};
use crate::server::{self, FaultRate, Faults, Settings};

/// How long answers under way may hold up the end: what stalls on request never ends by itself.
const LINGER: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "Examples:
  A teacher for a try by hand:
    sera-teacher rehearse --listen 127.0.0.1:8000
    curl -s http://127.0.0.1:8000/v1/models

  One that makes trouble, the same trouble every time:
    sera-teacher rehearse --seed 7 --fault-rate rate-limit=0.05 --fault-rate two-calls=0.05 --fault-rate stall=0.01

Faults: latency, rate-limit, server-error, stall, reset, malformed-arguments, two-calls, no-call, empty, truncated.
Each call has its fault the first time it is made; made again, it is answered.

Exit codes: 0 it was told to stop, 1 it cannot listen, 2 the command line is wrong.";

/// The rehearsal teacher of sera-operator: a program that speaks a model server's protocol, and no model.
#[derive(Debug, Parser)]
#[command(name = "sera-teacher", version, arg_required_else_help = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer chat completions as an agent would, deterministically
    ///
    /// Answers OpenAI chat completions as an agent would that works on a repository with the tools it is offered. What it says follows from the seed and
    /// the conversation alone, so any number of replicas give the same answers. It makes small real changes; it understands nothing.
    #[command(after_long_help = EXAMPLES, args_override_self = true)]
    Rehearse(RehearseArgs),
}

#[derive(Debug, Args)]
struct RehearseArgs {
    /// Where to listen; port 0 takes a free one, and standard output says which
    #[arg(long, env = "SERA_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// What all choices are drawn from
    #[arg(long, env = "SERA_SEED", value_name = "N", default_value_t = 42)]
    seed: u64,
    /// In which shares second rollouts make the first one's change whole, in part, or not at all
    #[arg(long, env = "SERA_SHARES", value_name = "SHARES", default_value = "full=0.6,partial=0.3,miss=0.1")]
    shares: Shares,
    /// The share of self-reviews that are answered with no; the paper's teachers refuse 2% the first time
    #[arg(long, env = "SERA_REFUSE", value_name = "SHARE", default_value_t = 0.02, value_parser = share)]
    refuse: f64,
    /// The share of first rollouts that find nothing to change
    #[arg(long, env = "SERA_ABSTAIN", value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    abstain: f64,
    /// The share of rollouts that look on and on, and never submit
    #[arg(long, env = "SERA_NEVER_SUBMIT", value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    never_submit: f64,
    /// How many tokens a conversation may have before it is refused; a token is counted as four bytes
    #[arg(long, env = "SERA_CONTEXT_LENGTH", value_name = "TOKENS", default_value_t = 131_072)]
    context_length: u64,
    /// How many beginnings of conversations the prefix cache holds, at about 150 bytes each
    #[arg(long, env = "SERA_CACHE_ENTRIES", value_name = "N", default_value_t = 1_000_000)]
    cache_entries: usize,
    /// How long every answer takes, such as 250ms
    #[arg(long, env = "SERA_LATENCY", value_name = "DURATION", default_value = "0ms", value_parser = duration)]
    latency: Duration,
    /// A fault and the share of calls that have it; can be given several times
    #[arg(long, env = "SERA_FAULT_RATES", value_name = "FAULT=SHARE", value_delimiter = ',')]
    fault_rate: Vec<FaultRate>,
    /// How much longer an answer takes that has the fault latency
    #[arg(long, env = "SERA_FAULT_LATENCY", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    fault_latency: Duration,
    /// How log lines look on standard error
    #[arg(long, env = "SERA_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Log each answer as well
    #[arg(long, short)]
    verbose: bool,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("the program's threads cannot be started: {0}")]
    Threads(#[source] std::io::Error),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the server failed: {0}")]
    Serve(#[source] std::io::Error),
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let Command::Rehearse(arguments) = Cli::parse().command;
    start_log(arguments.log_format, arguments.verbose);
    let faults = match Faults::new(arguments.seed, arguments.fault_rate.clone(), arguments.fault_latency) {
        Ok(faults) => faults,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments, faults) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &RehearseArgs, faults: Faults) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Threads)?;
    let settings = Settings {
        behaviour: Behaviour {
            seed: arguments.seed,
            shares: arguments.shares,
            refusals: arguments.refuse,
            abstentions: arguments.abstain,
            lingering: arguments.never_submit,
        },
        context_length: arguments.context_length,
        cache_entries: arguments.cache_entries,
        latency: arguments.latency,
        faults,
    };
    let outcome = runtime.block_on(listen(arguments.listen, settings));
    runtime.shutdown_timeout(LINGER);
    outcome
}

async fn listen(address: SocketAddr, settings: Settings) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| ServeError::Listen { address, source })?;
    tracing::info!(%address, seed = settings.behaviour.seed, shares = %settings.behaviour.shares, "the rehearsal teacher answers; it is no model");
    // Scripts and tests read the port here; whoever has closed standard output does not need it.
    let _ = writeln!(std::io::stdout(), "listening on http://{address}");
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let server = server::serve(listener, settings, async { drop(stopping.await) });
    tokio::pin!(server);
    tokio::select! {
        outcome = &mut server => return outcome.map_err(ServeError::Serve),
        () = stopped() => drop(stop),
    }
    // Answers under way are finished, but for those that never end.
    tokio::time::timeout(LINGER, server).await.unwrap_or(Ok(())).map_err(ServeError::Serve)
}

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

fn start_log(format: LogFormat, verbose: bool) {
    let filter =
        tracing_subscriber::EnvFilter::new(if verbose { "warn,sera_teacher=debug" } else { "warn,sera_teacher=info" });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    if let Err(error) = started {
        // There is no log to put it in.
        let _ = writeln!(std::io::stderr(), "the log cannot be started: {error}");
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("\"{text}\" is no share from 0 to 1"))
}

fn duration(text: &str) -> Result<Duration, String> {
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
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_and_shares_are_read() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), duration("120s"));
        assert!(duration("2").is_err() && duration("s").is_err());
        assert_eq!(share("0.25"), Ok(0.25));
        assert!(share("1.5").is_err());
    }
}
