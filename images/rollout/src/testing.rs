//! What unit tests share: the scripted teacher, which tests of the program use as well.

#[path = "../tests/support/endpoint.rs"]
pub(crate) mod endpoint;
