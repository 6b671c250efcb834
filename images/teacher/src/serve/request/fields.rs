//! The fields of a JSON object, taken one by one: what is left in the end is known by nobody.

use serde_json::{Map, Value};

use crate::http::Refusal;

/// Fields that have not been taken yet, and where they are.
#[derive(Debug)]
pub(super) struct Fields {
    within: String,
    left: Map<String, Value>,
}

impl Fields {
    /// Those of the request.
    pub(super) fn new(left: Map<String, Value>) -> Self {
        Self { within: String::new(), left }
    }

    /// Those of an object of it.
    pub(super) fn within(name: &str, left: Map<String, Value>) -> Self {
        Self { within: format!("{name}."), left }
    }

    /// A field's full name.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.within)
    }

    /// A field, if it is there and not null, as `read` reads it; `expected` says what it should be.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        match self.left.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(&value).map(Some).ok_or_else(|| {
                let name = self.name(name);
                Refusal::field(&name, format!("`{name}` is not {expected}"))
            }),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        self.take(name, "true or false", Value::as_bool)
    }

    /// A number that is `allowed`; `expected` says which are.
    pub(super) fn number(
        &mut self,
        name: &str,
        expected: &str,
        allowed: impl Fn(f64) -> bool,
    ) -> Result<Option<f64>, Refusal> {
        self.take(name, expected, |value| value.as_f64().filter(|number| allowed(*number)))
    }

    pub(super) fn array(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refusal> {
        self.take(name, "a list", |value| value.as_array().cloned())
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        self.take(name, "an object", |value| value.as_object().cloned())
    }

    /// Refuses a field whose value is none of `values`, which ask for nothing.
    pub(super) fn neutral(&mut self, name: &str, values: &[Value]) -> Result<(), Refusal> {
        let only: Vec<_> = values.iter().map(Value::to_string).collect();
        let expected = format!("supported here; leave it out, or say {}", only.join(" or "));
        self.take(name, &expected, |value| values.contains(value).then_some(())).map(drop)
    }

    /// Takes a field whatever it says.
    pub(super) fn pass_over(&mut self, name: &str) {
        self.left.remove(name);
    }

    /// Refuses what has not been taken.
    pub(super) fn refuse_the_rest(self) -> Result<(), Refusal> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => {
                let name = self.name(name);
                Err(Refusal::field(&name, format!("`{name}` is not known here; leave it out")))
            }
        }
    }
}

pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
