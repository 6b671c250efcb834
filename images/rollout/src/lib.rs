//! The data plane's stages as plain commands: files in, files out, a termination message and an exit code, no cluster needed. `snapshot` is the first,
//! `rollout` (over `agent`, `chat`, `prompts`, `sandbox`, `checkout`, `budget` and `metrics`) the second, and `evaluate` compares models by the
//! same rollouts; what all programs share, the store and
//! the way failures are told among it, is `sera_program`'s. Nothing in here speaks to Kubernetes.

mod adopt;
mod agent;
mod budget;
mod chat;
mod checkout;
pub mod cli;
mod dataset;
mod erase;
mod evaluate;
mod git;
mod github;
mod index;
mod inspect;
mod jsonl;
mod metrics;
mod prompts;
mod rollout;
mod sampling;
mod sandbox;
mod scratch;
mod snapshot;
mod style;
#[cfg(test)]
mod testing;
pub mod verify;

// What all programs share, by the names that it has here.
use sera_program::{ending, failure, progress, redact, secrets, settings, store, trust};
