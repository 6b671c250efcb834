//! What the engine's tests share: ranks as threads of one process, and a small model none of whose sizes divides by four.

pub(crate) mod group;
pub(crate) mod model;
