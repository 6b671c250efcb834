//! `sera-teacher rehearse`: its flags, and what they come to.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::running::{self, LogArgs, ServeError, duration};
use crate::agent::{Behaviour, Shares};
use crate::server::{self, FaultRate, Faults, Settings};

/// How long answers under way may hold up the end: what stalls on request never ends by itself.
const LINGER: Duration = Duration::from_secs(1);

pub(super) const EXAMPLES: &str = "Examples:
  A teacher for a try by hand:
    sera-teacher rehearse --listen 127.0.0.1:8000
    curl -s http://127.0.0.1:8000/v1/models

  One that makes trouble, the same trouble every time:
    sera-teacher rehearse --seed 7 --fault-rate rate-limit=0.05 --fault-rate two-calls=0.05 --fault-rate stall=0.01

Faults: latency, rate-limit, server-error, stall, reset, malformed-arguments, two-calls, no-call, empty, truncated.
Each call has its fault the first time it is made; made again, it is answered.";

#[derive(Debug, Args)]
pub(super) struct RehearseArgs {
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
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// Runs the command.
pub(super) fn run(arguments: &RehearseArgs) -> Result<(), ServeError> {
    let faults = Faults::new(arguments.seed, arguments.fault_rate.clone(), arguments.fault_latency);
    let faults = faults.map_err(|error| ServeError::Usage(error.to_string()))?;
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
    running::block_on(listen(arguments.listen, settings))
}

async fn listen(address: SocketAddr, settings: Settings) -> Result<(), ServeError> {
    let (listener, address) = running::listen(address).await?;
    tracing::info!(%address, seed = settings.behaviour.seed, shares = %settings.behaviour.shares, "the rehearsal teacher answers; it is no model");
    running::until_stopped(LINGER, |stop| server::serve(listener, settings, stop), || {}).await
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("\"{text}\" is no share from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read() {
        assert_eq!(share("0.25"), Ok(0.25));
        assert!(share("1.5").is_err());
    }
}
