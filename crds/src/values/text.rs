//! The one way in which a string becomes a value: a pattern, a length and whatever the type still asks for. The same
//! three stand in the schema, so what the API server admits is what every program parses.

use std::fmt;

/// A text that is no value of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{found}' is not {kind}: expected {expected}")]
pub struct ValueError {
    /// What it was meant to be, with its article: `a ratio`.
    pub kind: &'static str,
    /// What was given; shortened, and without what stands before an `@` of a URL, which may be a password.
    pub found: String,
    /// What would have been right, with an example.
    pub expected: &'static str,
}

impl ValueError {
    pub(crate) fn new(kind: &'static str, expected: &'static str, found: &str) -> Self {
        Self { kind, found: shown(found), expected }
    }
}

/// How many characters of a wrong value an error repeats.
const SHOWN_CHARS: usize = 80;

fn shown(found: &str) -> String {
    let found = match (found.find("://"), found.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://…{}", &found[..scheme], &found[at..]),
        _ => found.to_owned(),
    };
    if found.chars().count() <= SHOWN_CHARS { found } else { found.chars().take(SHOWN_CHARS).chain(['…']).collect() }
}

/// A CEL rule of a value's schema.
#[derive(Debug, Clone, Copy)]
pub struct TextRule {
    /// The expression over `self`, the string.
    pub rule: &'static str,
    /// What is said when it does not hold. `None`: the type's `EXPECTED` says it already.
    pub message: Option<&'static str>,
}

/// What all values that are written as strings have in common.
pub trait TextValue: Sized + fmt::Display + std::str::FromStr<Err = ValueError> {
    /// What it is, with its article, for errors.
    const KIND: &'static str;
    /// What is expected, with an example, for errors.
    const EXPECTED: &'static str;
    /// The pattern of the whole string, in the syntax that RE2 and Rust share.
    const PATTERN: &'static str;
    /// The fewest characters.
    const MIN_CHARS: usize;
    /// The most characters.
    const MAX_CHARS: usize;
    /// What the pattern cannot say. A text that does not fit the pattern is not asked.
    const RULES: &'static [TextRule];
}

/// Declares a newtype over `String` that only [`FromStr`](std::str::FromStr) makes, with serde, `Display`, and a schema
/// behind the feature `kube`. `accept` answers for what the pattern cannot say, and mirrors `rules`.
macro_rules! text_value {
    (
        $(#[$doc:meta])*
        $name:ident {
            kind: $kind:literal,
            expected: $expected:literal,
            pattern: $pattern:expr,
            chars: $min:literal ..= $max:literal,
            rules: [$($rule:literal $(=> $message:literal)?),* $(,)?],
            accept: $accept:expr $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(String);

        impl $name {
            /// The value as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl crate::values::TextValue for $name {
            const KIND: &'static str = $kind;
            const EXPECTED: &'static str = $expected;
            const PATTERN: &'static str = $pattern;
            const MIN_CHARS: usize = $min;
            const MAX_CHARS: usize = $max;
            const RULES: &'static [crate::values::TextRule] =
                &[$(crate::values::TextRule { rule: $rule, message: [$(Some($message),)? None][0] }),*];
        }

        impl std::str::FromStr for $name {
            type Err = crate::values::ValueError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                static PATTERN: std::sync::LazyLock<Option<regex_lite::Regex>> =
                    std::sync::LazyLock::new(|| regex_lite::Regex::new($pattern).ok());
                let accept: fn(&str) -> bool = $accept;
                let fits = ($min..=$max).contains(&text.chars().count())
                    && PATTERN.as_ref().is_some_and(|pattern| pattern.is_match(text))
                    && accept(text);
                if fits { Ok(Self(text.to_owned())) } else { Err(crate::values::ValueError::new($kind, $expected, text)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = crate::values::ValueError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "kube")]
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                crate::values::schema::of_text::<Self>()
            }
        }
    };
}
pub(super) use text_value;

/// A value of a default, written where the default is declared. The tests make every one of them.
#[expect(clippy::expect_used, reason = "the text is a literal of this crate, and a test makes every default")]
pub(crate) fn literal<T: TextValue>(text: &'static str) -> T {
    text.parse().expect("a default is a value of its type")
}
