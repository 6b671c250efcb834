//! Lines of a dataset: rendered and made tokens, or refused; what is taken has as many decisions as tokens, and something to learn.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sera_trainer::data::Renderer;

static RENDERER: LazyLock<Renderer> = LazyLock::new(|| {
    Renderer::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../trainer/chat/tests/tiny"))).unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(line) = RENDERER.line(bytes) {
        assert_eq!(line.ids.len(), line.loss.len());
        assert!(line.loss.iter().skip(1).any(|loss| *loss));
    }
});
