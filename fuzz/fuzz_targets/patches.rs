//! Pairs of patches, apart at the first byte 255: the short way and the long way measure the same, a patch finds itself again, and recall is a share.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sera_rollout::verify::{measure, recall, strict};

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == 0xFF).unwrap_or(bytes.len());
    let (first, second) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let (measures, _) = measure(first, second);
    assert_eq!(measures.recall, recall(first, second));
    assert_eq!(measures.strict, strict(first, second).measures);
    if let Some(share) = measures.recall {
        assert!(share.total > 0 && share.matched <= share.total);
    }
    if let Some(itself) = recall(first, first) {
        assert_eq!(itself.matched, itself.total);
    }
});
