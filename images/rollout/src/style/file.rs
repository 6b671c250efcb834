//! `style.jsonl.zst`: the examples as a file, the same bytes for the same examples.

use std::collections::BTreeMap;

use sera_crds::contract::{StyleExample, StyleOrigin};

/// The file's name beside the snapshot's manifest.
pub(crate) const FILE: &str = "style.jsonl.zst";
/// zstd's own default: a hundred issues take a millisecond.
const LEVEL: i32 = 3;

/// The longest content, in bytes: a hundred examples of 16 KiB, each byte of which JSON may spell with six.
const LONGEST_FILE: usize = 100 * 6 * (16 << 10);

/// Why the file cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StyleFileError {
    /// An example cannot be written as JSON.
    #[error("a style example cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// zstd fails.
    #[error("the style examples cannot be compressed: {0}")]
    Compress(#[from] std::io::Error),
}

/// The file, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Its content.
    pub(crate) bytes: Vec<u8>,
    /// How many examples are of each origin.
    pub(crate) origins: BTreeMap<StyleOrigin, u32>,
}

/// Writes examples as lines of JSON, compressed.
pub(crate) fn encode(examples: &[StyleExample]) -> Result<Encoded, StyleFileError> {
    let mut lines = Vec::new();
    let mut origins = BTreeMap::new();
    for example in examples {
        serde_json::to_writer(&mut lines, example)?;
        lines.push(b'\n');
        *origins.entry(example.origin).or_default() += 1;
    }
    Ok(Encoded { bytes: zstd::bulk::compress(&lines, LEVEL)?, origins })
}

/// What is in a file; none where it is not one of ours.
pub(crate) fn decode(bytes: &[u8]) -> Option<Encoded> {
    let lines = zstd::bulk::decompress(bytes, LONGEST_FILE).ok()?;
    let mut origins = BTreeMap::new();
    for line in std::str::from_utf8(&lines).ok()?.lines() {
        let example: StyleExample = serde_json::from_str(line).ok()?;
        *origins.entry(example.origin).or_default() += 1;
    }
    (!origins.is_empty()).then(|| Encoded { bytes: bytes.to_vec(), origins })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_is_a_line_and_the_same_examples_give_the_same_bytes() {
        let example = |origin, body: &str| StyleExample { origin, title: Some("a\nb".into()), body: body.into() };
        let examples = [example(StyleOrigin::Issue, "one\ntwo ✓"), example(StyleOrigin::BuiltIn, "three")];
        let encoded = encode(&examples).unwrap();
        assert_eq!(encoded, encode(&examples).unwrap());
        assert_eq!(encoded.origins, BTreeMap::from([(StyleOrigin::Issue, 1), (StyleOrigin::BuiltIn, 1)]));
        let text = String::from_utf8(zstd::decode_all(encoded.bytes.as_slice()).unwrap()).unwrap();
        let read: Vec<StyleExample> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, examples);
    }

    #[test]
    fn what_is_not_such_a_file_is_not_taken_for_one() {
        let example = StyleExample { origin: StyleOrigin::CommitMessage, title: None, body: "one".into() };
        let encoded = encode(&[example]).unwrap();
        assert_eq!(decode(&encoded.bytes), Some(encoded.clone()));
        assert_eq!(decode(&encoded.bytes[..encoded.bytes.len() - 1]), None);
        for content in ["", "{}\n", "nonsense"] {
            assert_eq!(decode(&zstd::bulk::compress(content.as_bytes(), LEVEL).unwrap()), None);
        }
        assert_eq!(decode(b"nonsense"), None);
    }
}
