//! What the tests have in common: the program as a process, a client for HTTP, an agent's loop, and a repository in many languages.

pub(crate) mod agent;
pub(crate) mod http;
pub(crate) mod repository;
pub(crate) mod sample;
pub(crate) mod teacher;
