//! The header of a safetensors file, read as strictly as the format's own reader does, with the tensor's name in every complaint.

use std::collections::BTreeSet;
use std::fmt;

use safetensors::tensor::TensorInfo;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

/// The longest header that the format allows.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// The entry that describes the file instead of a tensor.
const METADATA: &str = "__metadata__";

/// What is wrong with a safetensors file.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The file ends before what its header speaks of.
    #[error("it has {found} bytes where its header speaks of {expected}: it was cut off; fetch it again")]
    Truncated {
        /// How many it should have.
        expected: u64,
        /// How many it has.
        found: u64,
    },
    /// The file goes on after what its header speaks of.
    #[error("it has {found} bytes where its header speaks of {expected}: it is damaged; fetch it again")]
    TooLong {
        /// How many it should have.
        expected: u64,
        /// How many it has.
        found: u64,
    },
    /// The length of the header makes no sense.
    #[error("its header would have {0} bytes, more than the format allows: it is not a safetensors file")]
    Huge(u64),
    /// The header is not what the format says.
    #[error("its header is not that of a safetensors file: {0}")]
    Json(#[from] serde_json::Error),
    /// A tensor's bytes do not lie where the one before it ends.
    #[error("tensor `{name}` begins at byte {found}, where {expected} is next: the file is damaged; fetch it again")]
    Offset {
        /// Its name.
        name: String,
        /// Where it should begin.
        expected: usize,
        /// Where it does.
        found: usize,
    },
    /// Shape and type do not give the number of bytes.
    #[error("tensor `{name}` of shape {shape:?} does not fill bytes {} to {}: the file is damaged; fetch it again", range.0, range.1)]
    Size {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The bytes that it is said to have.
        range: (usize, usize),
    },
}

/// A file's tensors by name, in the order of their bytes, and where the first of those lies.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) begin: u64,
    pub(super) tensors: Vec<(String, TensorInfo)>,
}

/// How long the header of a file of `length` bytes is, from its first eight bytes.
pub(super) fn header_length(first: [u8; 8], length: u64) -> Result<u64, HeaderError> {
    let header = u64::from_le_bytes(first);
    if header > MAX_HEADER {
        return Err(HeaderError::Huge(header));
    }
    if 8 + header > length {
        return Err(HeaderError::Truncated { expected: 8 + header, found: length });
    }
    Ok(header)
}

/// Reads the header of a file of `length` bytes.
pub(super) fn parse(json: &[u8], length: u64) -> Result<Header, HeaderError> {
    let begin = 8 + json.len() as u64;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let mut tensors = deserializer.deserialize_map(Entries)?;
    deserializer.end()?;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut next = 0;
    for (name, info) in &tensors {
        let (from, to) = info.data_offsets;
        if from != next {
            return Err(HeaderError::Offset { name: name.clone(), expected: next, found: from });
        }
        if bytes(info).is_none_or(|bytes| from.checked_add(bytes) != Some(to)) {
            return Err(HeaderError::Size { name: name.clone(), shape: info.shape.clone(), range: (from, to) });
        }
        next = to;
    }
    match begin.saturating_add(next as u64) {
        expected if expected > length => Err(HeaderError::Truncated { expected, found: length }),
        expected if expected < length => Err(HeaderError::TooLong { expected, found: length }),
        _ => Ok(Header { begin, tensors }),
    }
}

/// How many bytes a tensor takes; none where they cannot be counted.
fn bytes(info: &TensorInfo) -> Option<usize> {
    let values = info.shape.iter().try_fold(1, |product: usize, size| product.checked_mul(*size))?;
    let bits = values.checked_mul(info.dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// A tensor's name as a file has it. Messages have it in them, and are a line each: one that would break the line is none.
pub(super) fn one_line<E: serde::de::Error>(name: String) -> Result<String, E> {
    if name.contains(char::is_control) {
        return Err(E::custom(format!("{name:?} is no name of a tensor: it has a control character in it")));
    }
    Ok(name)
}

/// Reads the entries one by one: collected into a map, a name that is there twice would go unseen.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, TensorInfo)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with an entry a tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut tensors, mut seen) = (Vec::new(), BTreeSet::new());
        while let Some(name) = map.next_key::<String>()? {
            let name = one_line(name)?;
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("`{name}` is there twice")));
            }
            if name == METADATA {
                map.next_value::<Option<std::collections::BTreeMap<String, String>>>()?;
            } else {
                let info = map.next_value().map_err(|error| A::Error::custom(format!("tensor `{name}`: {error}")))?;
                tensors.push((name, info));
            }
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::SafeTensors;
    use serde_json::json;

    use super::*;

    /// A file with this header and `data` bytes after it.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + data, 7);
        file
    }

    fn read(file: &[u8]) -> Result<Header, HeaderError> {
        let length = file.len() as u64;
        let first = file.first_chunk().ok_or(HeaderError::Truncated { expected: 8, found: length })?;
        let header = usize::try_from(header_length(*first, length)?).unwrap();
        parse(&file[8..8 + header], length)
    }

    fn message(header: &serde_json::Value, data: usize) -> String {
        read(&file(&header.to_string(), data)).unwrap_err().to_string()
    }

    fn two() -> serde_json::Value {
        json!({"__metadata__": {"format": "pt"}, "b": {"dtype": "BF16", "shape": [3], "data_offsets": [24, 30]},
            "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}})
    }

    #[test]
    fn tensors_come_in_the_order_of_their_bytes() {
        let header = read(&file(&two().to_string(), 30)).unwrap();
        let names: Vec<_> = header.tensors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, header.begin), (vec!["a", "b"], 8 + two().to_string().len() as u64));
    }

    #[test]
    fn a_file_that_was_cut_off_or_goes_on_is_refused() {
        assert!(message(&two(), 29).contains("cut off"));
        assert!(message(&two(), 31).contains("damaged"));
        assert!(matches!(read(&file("{}", 0)[..9]), Err(HeaderError::Truncated { expected: 10, found: 9 })));
        assert!(matches!(read(b"PK\x03\x04 not safetensors"), Err(HeaderError::Huge(_))));
    }

    #[test]
    fn a_header_that_lies_about_lengths_is_refused_by_the_tensors_name() {
        let with = |field: &str, value: serde_json::Value| {
            let mut header = two();
            header["b"][field] = value;
            message(&header, 30)
        };
        assert!(with("shape", json!([4])).starts_with("tensor `b` of shape [4] does not fill bytes 24 to 30"));
        assert!(with("shape", json!([usize::MAX, 2])).starts_with("tensor `b`"));
        assert!(with("data_offsets", json!([20, 26])).starts_with("tensor `b` begins at byte 20, where 24 is next"));
        assert!(with("data_offsets", json!([30, 24])).contains("tensor `b`"));
        assert!(with("dtype", json!("F17")).contains("tensor `b`"));
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused() {
        let twice = two().to_string().replace("\"b\"", "\"a\"");
        assert!(read(&file(&twice, 30)).unwrap_err().to_string().contains("`a` is there twice"));
    }

    proptest! {
        #[test]
        fn a_damaged_header_is_refused_or_read_as_the_format_s_own_reader_does(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in 0usize..40, data in 28usize..32,
        ) {
            let mut file = file(&two().to_string(), data);
            for (at, byte) in changes {
                let at = at.index(file.len());
                file[at] = byte;
            }
            file.truncate(file.len() - if cut > 35 { cut } else { 0 });
            if let Ok(header) = read(&file) {
                let theirs = SafeTensors::deserialize(&file);
                prop_assert!(theirs.is_ok(), "taken: {}", String::from_utf8_lossy(&file));
                let theirs = theirs.unwrap();
                prop_assert_eq!(theirs.len(), header.tensors.len());
                for (name, info) in header.tensors {
                    let their = theirs.tensor(&name).unwrap();
                    let from = usize::try_from(header.begin).unwrap() + info.data_offsets.0;
                    prop_assert_eq!(their.shape(), &info.shape);
                    prop_assert_eq!(their.dtype(), info.dtype);
                    prop_assert_eq!(their.data().as_ptr(), file[from..].as_ptr());
                }
            }
        }
    }
}
