//! The data plane's stages as plain commands: files in, files out, a termination message and an exit code, no cluster needed. So far `snapshot`;
//! what follows it shares the store, the secrets, the logs and the way failures are told. Nothing in here speaks to Kubernetes.

pub mod cli;
mod dataset;
mod failure;
mod git;
mod index;
mod inspect;
mod jsonl;
mod logs;
mod progress;
mod redact;
mod sampling;
mod scratch;
mod secrets;
mod snapshot;
mod store;
pub mod verify;
