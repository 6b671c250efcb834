//! `model.safetensors.index.json`: which tensor is in which file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::header::one_line;

/// What is wrong with an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not what an index looks like.
    #[error("it is not the index of a model in shards: {0}")]
    Json(#[from] serde_json::Error),
    /// A file that is not in the model's directory.
    #[error("it has tensor `{tensor}` in {file:?}, which is not the name of a file in this directory")]
    Outside {
        /// The tensor.
        tensor: String,
        /// Where it is said to be.
        file: String,
    },
}

/// The file of every tensor, both by name.
pub(super) type WeightMap = BTreeMap<String, String>;

/// Reads an index; every file that it names is one directly in its directory.
pub(super) fn parse(json: &[u8]) -> Result<WeightMap, IndexError> {
    let index: Index = serde_json::from_slice(json)?;
    match index.weight_map.iter().find(|(_, file)| !is_plain(file)) {
        Some((tensor, file)) => Err(IndexError::Outside { tensor: tensor.clone(), file: file.clone() }),
        None => Ok(index.weight_map),
    }
}

fn is_plain(file: &str) -> bool {
    let mut components = Path::new(file).components();
    let alone = matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == file);
    alone && !file.contains(|letter: char| letter == '\\' || letter.is_control())
}

#[derive(Deserialize)]
struct Index {
    #[serde(deserialize_with = "without_duplicates")]
    weight_map: WeightMap,
}

fn without_duplicates<'de, D: Deserializer<'de>>(deserializer: D) -> Result<WeightMap, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = WeightMap;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object from tensors' names to files' names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
            let mut entries = WeightMap::new();
            while let Some((tensor, file)) = map.next_entry::<String, String>()? {
                let tensor = one_line(tensor)?;
                if entries.contains_key(&tensor) {
                    return Err(A::Error::custom(format!("tensor `{tensor}` is there twice")));
                }
                entries.insert(tensor, file);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_map(Entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_names_files_in_its_own_directory_alone() {
        let parse = |file: &str| {
            parse(serde_json::json!({"metadata": {"total_size": 1}, "weight_map": {"a": file}}).to_string().as_bytes())
        };
        assert_eq!(parse("x.safetensors").unwrap()["a"], "x.safetensors");
        for file in ["../x", "/x", "..", ".", "", "a/x", "./x", "x/", "a\\x", "x\0", "x\ny"] {
            assert!(matches!(parse(file), Err(IndexError::Outside { .. })), "{file:?}");
        }
    }

    #[test]
    fn a_tensor_in_two_files_is_refused_by_name() {
        let error = parse(br#"{"weight_map": {"a": "x", "b": "y", "a": "z"}}"#).unwrap_err();
        assert!(error.to_string().contains("tensor `a` is there twice"), "{error}");
    }

    proptest! {
        #[test]
        fn a_damaged_index_is_refused_or_stays_in_its_directory(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut index = br#"{"metadata": {"total_size": 12}, "weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}"#.to_vec();
            for (at, byte) in changes {
                let at = at.index(index.len());
                index[at] = byte;
            }
            for file in parse(&index).unwrap_or_default().values() {
                let path = Path::new("/m").join(file);
                prop_assert_eq!(path.parent(), Some(Path::new("/m")));
            }
        }
    }
}
