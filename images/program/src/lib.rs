//! What every program of the data plane shares: the store, mounted Secrets and the authorities that TLS trusts, settings, logs without secrets, the display
//! of progress, and the way a command ends. What a stage does is its program's own matter.

pub mod address;
pub mod ending;
pub mod failure;
pub mod fetch;
pub mod logs;
pub mod progress;
pub mod redact;
pub mod secrets;
pub mod settings;
pub mod store;
pub mod trust;
