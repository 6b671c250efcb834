//! `style.jsonl.zst`: the examples as a file, the same bytes for the same examples.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use sera_crds::contract::{StyleExample, StyleOrigin};

use super::WANTED;
use crate::jsonl::{Reader, Writer};

/// The file's name beside the snapshot's manifest.
pub(crate) const FILE: &str = "style.jsonl.zst";

/// Writes examples to a file, in place of what is there.
pub(crate) fn write(examples: &[StyleExample], file: &Path) -> io::Result<()> {
    let mut writer = Writer::create(file)?;
    examples.iter().try_for_each(|example| writer.write(example))?;
    writer.finish().map(|_| ())
}

/// The examples in a file's content; none where it is not one of ours.
pub(crate) fn read(content: &[u8]) -> Option<Vec<StyleExample>> {
    let examples: Vec<StyleExample> = Reader::new(content).ok()?.take(WANTED + 1).collect::<Result<_, _>>().ok()?;
    (!examples.is_empty() && examples.len() <= WANTED).then_some(examples)
}

/// How many examples are of each origin.
pub(crate) fn origins(examples: &[StyleExample]) -> BTreeMap<StyleOrigin, u32> {
    let mut origins = BTreeMap::new();
    for example in examples {
        *origins.entry(example.origin).or_default() += 1;
    }
    origins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(origin: StyleOrigin, body: &str) -> StyleExample {
        StyleExample { origin, title: Some("a\nb".into()), body: body.into() }
    }

    fn written(examples: &[StyleExample]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        write(examples, &folder.path().join(FILE)).unwrap();
        std::fs::read(folder.path().join(FILE)).unwrap()
    }

    #[test]
    fn examples_come_back_as_they_were_and_the_same_ones_give_the_same_bytes() {
        let examples = [example(StyleOrigin::Issue, "one\ntwo ✓"), example(StyleOrigin::BuiltIn, "three")];
        assert_eq!(read(&written(&examples)).unwrap(), examples);
        assert_eq!(written(&examples), written(&examples));
        assert_eq!(origins(&examples), BTreeMap::from([(StyleOrigin::Issue, 1), (StyleOrigin::BuiltIn, 1)]));
    }

    #[test]
    fn what_is_not_such_a_file_is_not_taken_for_one() {
        let whole = written(&[example(StyleOrigin::CommitMessage, "one")]);
        assert_eq!(read(&whole[..whole.len() - 1]), None);
        assert_eq!(read(b"nonsense"), None);
        assert_eq!(read(&written(&[])), None);
        assert_eq!(read(&written(&vec![example(StyleOrigin::Issue, "x"); WANTED + 1])), None);
    }
}
