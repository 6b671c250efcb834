//! The data plane's stages as plain commands: files in, files out, a termination message and an exit code, no cluster needed. `snapshot` is the first,
//! `rollout` (over `agent`, `chat`, `prompts`, `sandbox`, `checkout`, `budget` and `metrics`) the second; all share the store, the secrets, the logs
//! and the way failures are told. Nothing in here speaks to Kubernetes.

mod agent;
mod budget;
mod chat;
mod checkout;
pub mod cli;
mod dataset;
mod failure;
mod git;
mod github;
mod index;
mod inspect;
mod jsonl;
mod logs;
mod metrics;
mod progress;
mod prompts;
mod redact;
mod rollout;
mod sampling;
mod sandbox;
mod scratch;
mod secrets;
mod snapshot;
mod store;
mod style;
#[cfg(test)]
mod testing;
mod trust;
pub mod verify;
