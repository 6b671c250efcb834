//! What unit tests share: the scripted teacher, which tests of the program use as well.

#[allow(dead_code, reason = "tests of the program and the bench use the rest of it")]
#[path = "../tests/support/endpoint.rs"]
pub(crate) mod endpoint;
