//! The data plane's stages as plain commands: files in, files out, a termination message and an exit code, no cluster needed. So far `snapshot`;
//! what follows it shares the store, the secrets, the logs and the way failures are told. Nothing in here speaks to Kubernetes.

pub mod cli;
mod failure;
mod git;
mod github;
mod index;
mod jsonl;
mod logs;
mod progress;
mod redact;
mod sampling;
mod scratch;
mod secrets;
mod snapshot;
mod store;
mod style;
mod trust;
