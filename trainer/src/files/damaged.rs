//! Tests alone: whatever bytes a model's files have, they are refused with the file's name or make a model that is read; nothing panics, and no memory is
//! taken for what a file only claims to have.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use super::model_dir::{CONFIG, INDEX, WEIGHTS};
use super::testing::Fixture;
use super::{Adapter, GgufFile, ModelDir};
use crate::inference::Source;

/// Some bytes replaced, and the end cut off or something added.
fn damage() -> impl Strategy<Value = (Vec<(Index, u8)>, Option<Index>, Vec<u8>)> {
    let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..5);
    (changes, prop::option::weighted(0.2, any::<Index>()), prop::collection::vec(any::<u8>(), 0..3))
}

fn damaged(bytes: &[u8], (changes, cut, more): (Vec<(Index, u8)>, Option<Index>, Vec<u8>)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes.extend(more);
    bytes
}

/// Opens a directory and reads every tensor of it; where it is refused, in a line that names the directory or a file of it. The error is another message.
fn read_whole(folder: &Path) -> Result<(), String> {
    let opened = ModelDir::open(folder).and_then(|model| {
        let names: Vec<String> = model.names().map(str::to_owned).collect();
        names.iter().try_for_each(|name| model.read(name).map(drop))
    });
    let Err(error) = opened else { return Ok(()) };
    let message = error.to_string();
    // What is wrong with two files names one of them by its path, and the other without.
    let named = message.contains(&folder.display().to_string());
    if named && !message.contains('\n') { Ok(()) } else { Err(message) }
}

/// A safetensors file of a header that claims to be so long, and these bytes.
fn claiming(length: u64, rest: &[u8]) -> Vec<u8> {
    [&length.to_le_bytes(), rest].concat()
}

#[test]
fn a_file_that_claims_to_be_longer_than_it_is_takes_no_memory_for_that() {
    let fixture = Fixture::new("qwen3", true);
    let huge = br#"{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}"#;
    for bytes in [
        claiming(1 << 60, b"{}"),
        claiming(u64::MAX, b""),
        claiming(99_999_999, b"{}"),
        claiming(huge.len() as u64, huge),
        Vec::new(),
        vec![0; 7],
    ] {
        std::fs::write(fixture.path().join(WEIGHTS), &bytes).unwrap();
        let error = ModelDir::open(fixture.path()).unwrap_err().to_string();
        assert!(error.contains(WEIGHTS), "{error}");
    }
}

#[test]
fn a_gguf_file_that_claims_more_than_it_has_takes_no_memory_for_that() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("claims.gguf");
    let of = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    // Tensors and fields without number, and a field whose name is as long.
    for counts in [of(&[1 << 60, 0]), of(&[0, 1 << 60]), of(&[0, 1, 1 << 60]), of(&[1, 0, u64::MAX])] {
        std::fs::write(&file, [b"GGUF\x03\0\0\0", counts.as_slice()].concat()).unwrap();
        let error = GgufFile::open(&file, candle_core::DType::F32).unwrap_err().to_string();
        assert!(error.contains("claims.gguf"), "{error}");
    }
}

proptest! {
    #[test]
    fn damaged_weights_are_refused_with_their_name_or_read(damage in damage()) {
        let fixture = Fixture::new("llama", false);
        fixture.whole();
        let path = fixture.path().join(WEIGHTS);
        let bytes = damaged(&std::fs::read(&path).unwrap(), damage);
        std::fs::write(&path, bytes).unwrap();
        prop_assert_eq!(read_whole(fixture.path()), Ok(()));
    }

    #[test]
    fn damaged_headers_are_refused_with_their_name_or_read(damage in damage()) {
        let fixture = Fixture::new("qwen2", true);
        fixture.whole();
        let path = fixture.path().join(WEIGHTS);
        let bytes = std::fs::read(&path).unwrap();
        let header = 8 + usize::try_from(u64::from_le_bytes(*bytes.first_chunk().unwrap())).unwrap();
        std::fs::write(&path, [damaged(&bytes[..header], damage).as_slice(), &bytes[header..]].concat()).unwrap();
        prop_assert_eq!(read_whole(fixture.path()), Ok(()));
    }

    #[test]
    fn a_damaged_index_is_refused_with_its_name_or_leads_to_the_tensors(damage in damage()) {
        let fixture = Fixture::new("qwen3", false);
        fixture.sharded();
        let path = fixture.path().join(INDEX);
        std::fs::write(&path, damaged(&std::fs::read(&path).unwrap(), damage)).unwrap();
        prop_assert_eq!(read_whole(fixture.path()), Ok(()));
    }

    #[test]
    fn a_damaged_configuration_is_refused_with_its_name_or_read(damage in damage()) {
        let fixture = Fixture::new("llama", true);
        fixture.whole();
        let path = fixture.path().join(CONFIG);
        std::fs::write(&path, damaged(&std::fs::read(&path).unwrap(), damage)).unwrap();
        prop_assert_eq!(read_whole(fixture.path()), Ok(()));
    }

    #[test]
    fn any_bytes_for_a_models_files_are_refused_with_their_name(bytes in prop::collection::vec(any::<u8>(), 0..300), which in 0usize..3) {
        let fixture = Fixture::new("qwen3", true);
        fixture.sharded();
        let name = [CONFIG, INDEX, "model-00001-of-00002.safetensors"][which];
        std::fs::write(fixture.path().join(name), &bytes).unwrap();
        let error = ModelDir::open(fixture.path()).map(drop).unwrap_err().to_string();
        prop_assert!(error.contains(name), "{}", error);
    }

    #[test]
    fn any_bytes_for_an_adapter_or_a_gguf_file_are_refused_with_their_name(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("adapter_config.json"), &bytes).unwrap();
        let error = Adapter::read(folder.path()).map(drop).unwrap_err().to_string();
        prop_assert!(error.contains("adapter_config.json"), "{}", error);
        let file = folder.path().join("x.gguf");
        std::fs::write(&file, [b"GGUF\x03\0\0\0", bytes.as_slice()].concat()).unwrap();
        let error = Source::open(&file).map(drop).unwrap_err().to_string();
        prop_assert!(error.contains("x.gguf"), "{}", error);
    }
}
