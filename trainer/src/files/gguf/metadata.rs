//! The metadata of a GGUF file, a field at a time.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;

/// A field that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// It is not there.
    #[error("`{0}` is missing")]
    Missing(String),
    /// It has another type, or is out of range.
    #[error("`{field}` is not {expected}")]
    Mistyped {
        /// Its name.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// It says something that is not supported.
    #[error("`{field}` is {value}; {only} is supported")]
    Unsupported {
        /// Its name.
        field: String,
        /// What it says.
        value: String,
        /// What can be imported.
        only: &'static str,
    },
    /// It may mean anything.
    #[error("`{}` is not understood and could change what the model computes", .0.escape_debug())]
    Unknown(String),
}

/// Fields by name.
pub(super) struct Metadata<'a>(pub(super) &'a HashMap<String, Value>);

impl Metadata<'_> {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn text(&self, field: &str) -> Result<&str, MetadataError> {
        let text = self.required(field)?.to_string().map(String::as_str);
        text.map_err(|_| mistyped(field, "a text"))
    }

    pub(super) fn optional_text(&self, field: &str) -> Result<Option<&str>, MetadataError> {
        self.0.contains_key(field).then(|| self.text(field)).transpose()
    }

    /// A whole number, whatever its width.
    pub(super) fn number(&self, field: &str) -> Result<u64, MetadataError> {
        whole(self.required(field)?).ok_or_else(|| mistyped(field, "a whole number of 0 or more"))
    }

    pub(super) fn optional_number(&self, field: &str) -> Result<Option<u64>, MetadataError> {
        self.0.contains_key(field).then(|| self.number(field)).transpose()
    }

    pub(super) fn flag(&self, field: &str) -> Result<bool, MetadataError> {
        match self.0.get(field) {
            None => Ok(false),
            Some(value) => value.to_bool().map_err(|_| mistyped(field, "true or false")),
        }
    }

    /// A number of 32 bits, as the shortest decimal that means it: 1e-5, not 9.999999747378752e-6.
    pub(super) fn decimal(&self, field: &str) -> Result<f64, MetadataError> {
        let value = self.required(field)?.to_f32().ok().filter(|value| value.is_finite());
        value.and_then(|value| value.to_string().parse().ok()).ok_or_else(|| mistyped(field, "a number"))
    }

    pub(super) fn texts(&self, field: &str) -> Result<Vec<&str>, MetadataError> {
        let list = self.list(field)?.iter().map(text_of).collect::<Option<_>>();
        list.ok_or_else(|| mistyped(field, "a list of texts"))
    }

    pub(super) fn numbers(&self, field: &str) -> Result<Vec<u64>, MetadataError> {
        let list = self.list(field)?.iter().map(whole).collect::<Option<_>>();
        list.ok_or_else(|| mistyped(field, "a list of whole numbers"))
    }

    fn list(&self, field: &str) -> Result<&[Value], MetadataError> {
        self.required(field)?.to_vec().map(Vec::as_slice).map_err(|_| mistyped(field, "a list"))
    }

    fn required(&self, field: &str) -> Result<&Value, MetadataError> {
        self.0.get(field).ok_or_else(|| MetadataError::Missing(field.to_owned()))
    }
}

fn mistyped(field: &str, expected: &'static str) -> MetadataError {
    MetadataError::Mistyped { field: field.to_owned(), expected }
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::U8(number) => Some(u64::from(*number)),
        Value::U16(number) => Some(u64::from(*number)),
        Value::U32(number) => Some(u64::from(*number)),
        Value::U64(number) => Some(*number),
        Value::I8(number) => u64::try_from(*number).ok(),
        Value::I16(number) => u64::try_from(*number).ok(),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::I64(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
