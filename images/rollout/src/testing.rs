//! What unit tests share: a store in a folder, and the scripted teacher, which tests of the program use as well.

#[allow(dead_code, reason = "tests of the program and the bench use the rest of it")]
#[path = "../tests/support/endpoint.rs"]
pub(crate) mod endpoint;

/// A store in a folder of this machine.
pub(crate) fn local(folder: &std::path::Path) -> crate::store::Store {
    crate::store::Store::open(&format!("file://{}", folder.display()), None).unwrap()
}
