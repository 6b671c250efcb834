//! The OpenAI protocol, as much of it as chat completions with tools need: what is asked, and what is answered.

mod request;
mod response;

pub(crate) use request::{ChatRequest, Role, Tool, WireMessage};
pub(crate) use response::{Completion, Finish, MARK, MODEL, Models, TokenCounts};
