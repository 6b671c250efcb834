//! What the API promises without a server: the definitions are complete and bounded, and every document survives the way through the types.

mod definitions;
mod examples;
mod round_trips;
mod strategies;
