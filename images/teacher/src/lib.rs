//! Two servers that speak the protocol of a model server. The *rehearsal teacher* is a deterministic program that makes small real edits, so that the
//! whole pipeline can be run, measured and broken without a GPU: it is no model and says so in every answer. The other one serves a small model with the
//! trainer's arithmetic. Neither knows who asks.

mod agent;
mod cache;
mod change;
pub mod cli;
mod code;
mod draw;
mod http;
mod protocol;
mod serve;
mod server;
mod tokens;

pub use serve::templates_input;
