//! The rehearsal teacher: a deterministic program that speaks the protocol of a model server and makes small real edits, so that the whole pipeline can be
//! run, measured and broken without a GPU. It is no model and says so in every answer. It knows nothing of who asks: it finds its way with the tools
//! that it is offered.

mod agent;
mod cache;
mod change;
pub mod cli;
mod code;
mod draw;
mod protocol;
mod server;
mod tokens;
