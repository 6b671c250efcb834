//! What unit tests share: a store in a folder, bytes of all kinds for whatever reads somebody else's, and the scripted teacher, which tests of the program
//! use as well.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

#[allow(dead_code, reason = "tests of the program and the bench use the rest of it")]
#[path = "../tests/support/endpoint.rs"]
pub(crate) mod endpoint;

/// A store in a folder of this machine.
pub(crate) fn local(folder: &std::path::Path) -> crate::store::Store {
    crate::store::Store::open(&format!("file://{}", folder.display()), None).unwrap()
}

/// Bytes of all kinds: any at all, and valid ones of which pieces were overwritten, cut out, repeated or added.
pub(crate) fn damaged(valid: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<Index>(), 0..64_usize, 0..4_u8, vec(any::<u8>(), 0..8));
    let changed = vec(damage, 1..6).prop_map(move |damages| {
        let mut bytes = valid.to_vec();
        for (at, length, kind, with) in damages {
            let at = at.index(bytes.len() + 1);
            let end = bytes.len().min(at + length);
            match kind {
                0 => drop(bytes.splice(at..end, with)),
                1 => drop(bytes.drain(at..end)),
                2 => bytes.extend_from_within(at..end),
                _ => drop(bytes.splice(at..at, with)),
            }
        }
        bytes
    });
    prop_oneof![1 => vec(any::<u8>(), 0..256), 4 => changed]
}
