//! Reads a file of a dataset whole: every line becomes tokens, or the line that does not is named.

use std::fs::File;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;

use super::cache;
use super::lines::{Lines, Numbered};
use super::renderer::{LineProblem, Renderer};
use crate::durable;
use crate::engine::Line;

/// Why a file of a dataset cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The system does not let it be read.
    #[error("the dataset's file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line is broken.
    #[error("{}, line {number}, instance_id {id}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        number: u64,
        /// What it calls itself, as far as that can be told.
        id: String,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// A token that the model has no row for.
    #[error(
        "{}: `{id}` has token {token}, and the model's embedding has {vocabulary} rows: the tokenizer is of another model",
        path.display()
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// The line.
        id: String,
        /// The token.
        token: u32,
        /// How many rows there are.
        vocabulary: usize,
    },
    /// There is no line.
    #[error("{} is empty: there is nothing to train on", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// There are lines, all of them too long.
    #[error(
        "all {lines} lines of {} are longer than `contextLength`, {context} tokens: raise it, or make the dataset for it",
        path.display()
    )]
    AllTooLong {
        /// The file.
        path: PathBuf,
        /// How many.
        lines: u64,
        /// The longest that is allowed.
        context: u32,
    },
}

/// What a line must keep to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest line in tokens; longer ones are left out and counted.
    pub context: u32,
    /// How many rows the model's embedding has.
    pub vocabulary: usize,
}

/// The lines of a file, as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Those that fit, in the order of the file.
    pub lines: Vec<Line>,
    /// How many were left out because they are longer than the context.
    pub too_long: u64,
    /// The file's sha256, in lower-case hexadecimal.
    pub sha256: String,
}

impl Dataset {
    /// Reads the file at `path`. Where `cache` is a folder, tokens that were made before are taken from there, and new ones kept.
    pub fn read(path: &Path, renderer: &Renderer, limits: Limits, cache: Option<&Path>) -> Result<Self, DataError> {
        let sha256 = durable::digest(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?.sha256;
        let kept = cache.map(|folder| cache::Entry::new(folder, &sha256, renderer.digest(), limits.context));
        let found = kept.as_ref().and_then(cache::Entry::read);
        let (lines, too_long) = if let Some(found) = found {
            found
        } else {
            let made = tokenise(path, renderer, limits.context)?;
            if let Some(entry) = &kept {
                entry.write(&made.0, made.1);
            }
            made
        };
        let dataset = Self { lines, too_long, sha256 };
        dataset.check(path, limits)?;
        Ok(dataset)
    }

    /// How many of the tokens carry loss.
    pub fn trained_tokens(&self) -> u64 {
        self.lines.iter().map(|line| line.loss.iter().skip(1).filter(|loss| **loss).count() as u64).sum()
    }

    fn check(&self, path: &Path, limits: Limits) -> Result<(), DataError> {
        let path = || path.to_owned();
        if self.lines.is_empty() {
            let (lines, context) = (self.too_long, limits.context);
            return Err(if lines == 0 {
                DataError::Empty { path: path() }
            } else {
                DataError::AllTooLong { path: path(), lines, context }
            });
        }
        for line in &self.lines {
            let foreign = line.ids.iter().find(|token| **token as usize >= limits.vocabulary);
            if let Some(token) = foreign {
                let (id, token, vocabulary) = (line.id.clone(), *token, limits.vocabulary);
                return Err(DataError::Token { path: path(), id, token, vocabulary });
            }
        }
        Ok(())
    }
}

/// The lines that fit, and how many do not. Many at a time, and the same whatever the number of threads: the first broken line is the one that is
/// named.
fn tokenise(path: &Path, renderer: &Renderer, context: u32) -> Result<(Vec<Line>, u64), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut input = Lines::new(File::open(path).map_err(unreadable)?);
    let (mut lines, mut too_long) = (Vec::new(), 0);
    loop {
        let piece = input.next().map_err(unreadable)?;
        if piece.is_empty() {
            return Ok((lines, too_long));
        }
        let made: Vec<_> = piece.par_iter().map(|(_, json)| renderer.line(json)).collect();
        for (numbered, made) in piece.iter().zip(made) {
            let line = made.map_err(|problem| broken(path, numbered, problem))?;
            if line.ids.len() > context as usize {
                too_long += 1;
            } else {
                lines.push(line);
            }
        }
    }
}

fn broken(path: &Path, (number, json): &Numbered, problem: LineProblem) -> DataError {
    let line: Option<Value> = serde_json::from_slice(json).ok();
    let id = line.as_ref().and_then(|line| line.get("instance_id")?.as_str()).unwrap_or("(none can be read)");
    DataError::Line { path: path.to_owned(), number: *number, id: id.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const LIMITS: Limits = Limits { context: 64, vocabulary: 405 };

    fn line(id: &str, words: usize) -> String {
        let messages = json!([{"role": "user", "content": "Go.", "train": false},
            {"role": "assistant", "content": "word ".repeat(words), "train": true}]);
        json!({"instance_id": id, "messages": messages}).to_string()
    }

    struct Place {
        folder: tempfile::TempDir,
        renderer: Renderer,
    }

    impl Place {
        fn with(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("train.jsonl"), text).unwrap();
            Self {
                folder,
                renderer: Renderer::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/chat/tests/tiny"))).unwrap(),
            }
        }

        fn read(&self, limits: Limits) -> Result<Dataset, DataError> {
            let cache = self.folder.path().join("cache");
            Dataset::read(&self.folder.path().join("train.jsonl"), &self.renderer, limits, Some(&cache))
        }
    }

    #[test]
    fn lines_that_are_too_long_are_left_out_and_counted_and_the_others_keep_their_order() {
        let place = Place::with(&[line("a", 1), line("b", 500), String::new(), line("c", 2)].join("\n"));
        let dataset = place.read(LIMITS).unwrap();
        let ids: Vec<&str> = dataset.lines.iter().map(|line| line.id.as_str()).collect();
        assert_eq!((ids, dataset.too_long), (vec!["a", "c"], 1));
        let exactly = Limits { context: u32::try_from(dataset.lines[1].ids.len()).unwrap(), ..LIMITS };
        assert_eq!(place.read(exactly).unwrap().lines.len(), 2, "a line of exactly the context fits");
    }

    #[test]
    fn a_broken_line_is_named_by_file_line_and_instance() {
        let broken = json!({"instance_id": "the-broken-one", "messages": []}).to_string();
        let error =
            Place::with(&[line("a", 1), String::new(), broken].join("\n")).read(LIMITS).unwrap_err().to_string();
        assert!(error.contains("train.jsonl, line 3, instance_id the-broken-one: it has no messages"), "{error}");
        let error = Place::with(&format!("{}\n{{\"instance_id\": \"cut", line("a", 1))).read(LIMITS).unwrap_err();
        assert!(matches!(error, DataError::Line { number: 2, .. }), "{error}");
    }

    #[test]
    fn a_file_that_leaves_nothing_to_train_on_is_refused() {
        assert!(matches!(Place::with("\n").read(LIMITS), Err(DataError::Empty { .. })));
        assert!(matches!(Place::with(&line("a", 500)).read(LIMITS), Err(DataError::AllTooLong { lines: 1, .. })));
        let small = Limits { vocabulary: 300, ..LIMITS };
        assert!(matches!(Place::with(&line("a", 1)).read(small), Err(DataError::Token { vocabulary: 300, .. })));
    }

    #[test]
    fn tokens_come_from_the_cache_until_the_file_the_context_or_the_cache_itself_changes() {
        let place = Place::with(&[line("a", 1), line("b", 500)].join("\n"));
        let first = place.read(LIMITS).unwrap();
        let entries =
            || std::fs::read_dir(place.folder.path().join("cache")).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!((entries().count(), place.read(LIMITS).unwrap() == first), (1, true));
        place.read(Limits { context: 63, ..LIMITS }).unwrap();
        assert_eq!(entries().count(), 2);
        for entry in entries() {
            let mut content = std::fs::read(&entry).unwrap();
            let middle = content.len() / 2;
            content[middle] ^= 1;
            std::fs::write(&entry, content).unwrap();
        }
        assert!(place.read(LIMITS).unwrap() == first, "a damaged entry is not believed");
    }

    /// Bytes as they might be where a dataset should be: lines with some bytes changed and the end cut off, or anything.
    fn anything() -> impl Strategy<Value = Vec<u8>> {
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
        let damaged = (changes, any::<prop::sample::Index>()).prop_map(|(changes, cut)| {
            let mut bytes = [line("a", 1), line("b", 3), line("c", 2), String::new()].join("\n").into_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len() - cut.index(bytes.len()) / 4);
            bytes
        });
        prop_oneof![3 => damaged, 1 => prop::collection::vec(any::<u8>(), 0..200)]
    }

    #[test]
    fn any_bytes_are_a_dataset_or_are_refused_with_the_file_and_a_line_of_it() {
        let place = Place::with("");
        let path = place.folder.path().join("train.jsonl");
        let limits = Limits { context: 4096, ..LIMITS };
        proptest!(|(bytes in anything())| {
            std::fs::write(&path, &bytes).unwrap();
            let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
            match Dataset::read(&path, &place.renderer, limits, None) {
                Ok(dataset) => prop_assert!(dataset.trained_tokens() > 0 && dataset.lines.len() as u64 <= lines),
                Err(error) => {
                    let message = error.to_string();
                    prop_assert!(message.contains("train.jsonl") && !message.contains('\n'), "{}", message);
                    if let DataError::Line { number, .. } = error {
                        prop_assert!((1..=lines).contains(&number), "{}", message);
                    }
                }
            }
        });
    }

    #[test]
    fn a_line_without_end_and_one_that_is_nested_without_end_are_refused() {
        let deep = format!("{{\"instance_id\": \"x\", \"messages\": {}", "[".repeat(100_000));
        for text in ["x".repeat(1 << 20), deep] {
            let error = Place::with(&text).read(LIMITS).unwrap_err();
            assert!(matches!(error, DataError::Line { number: 1, .. }), "{error}");
        }
    }
}
