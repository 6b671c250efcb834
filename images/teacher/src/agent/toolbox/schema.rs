//! What the schema of an offered tool tells: whether it executes, edits or submits, and what its parameters are for.

use serde_json::{Map, Value, json};

use super::{Edit, Range, Run};
use crate::protocol::Tool;

/// A tool as it is offered.
pub(super) struct Offered<'a> {
    pub(super) name: &'a str,
    description: &'a str,
    parameters: Vec<Parameter<'a>>,
}

struct Parameter<'a> {
    name: &'a str,
    description: &'a str,
    kind: &'a str,
    choices: Vec<&'a str>,
    required: bool,
}

impl<'a> Offered<'a> {
    pub(super) fn new(tool: &'a Tool) -> Self {
        let schema = &tool.function.parameters;
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = schema.get("properties").and_then(Value::as_object);
        let parameter = |(name, schema): (&'a String, &'a Value)| Parameter {
            name,
            description: schema["description"].as_str().unwrap_or_default(),
            kind: schema["type"].as_str().unwrap_or("string"),
            choices: schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
            required: required.contains(&name.as_str()),
        };
        Self {
            name: &tool.function.name,
            description: &tool.function.description,
            parameters: properties.into_iter().flatten().map(parameter).collect(),
        }
    }

    /// How well the tool fits "executes commands", if it can at all.
    pub(super) fn run(&self) -> Option<(usize, Run)> {
        const WORDS: [&str; 10] =
            ["bash", "shell", "command", "execute", "run", "terminal", "cmd", "script", "exec", "sh"];
        let texts =
            self.parameters.iter().filter(|parameter| parameter.kind == "string" && parameter.choices.is_empty());
        let command = texts.max_by_key(|parameter| {
            2 * hits(parameter.name, &WORDS) + hits(parameter.description, &WORDS) + usize::from(parameter.required)
        })?;
        let likelihood = 3 * hits(self.name, &WORDS) + hits(self.description, &WORDS) + 2 * hits(command.name, &WORDS);
        let rest = self
            .parameters
            .iter()
            .filter(|parameter| parameter.required && parameter.name != command.name)
            .map(filled)
            .collect();
        (likelihood > 0)
            .then(|| (likelihood, Run::Tool { name: self.name.to_owned(), command: command.name.to_owned(), rest }))
    }

    pub(super) fn edit(&self) -> Option<Edit> {
        // The words are in the order of how well they fit; a name says more than a description.
        let find = |words: &[&str], not: &[&str]| {
            let texts = || {
                self.parameters.iter().filter(|parameter| parameter.kind == "string" && parameter.choices.is_empty())
            };
            let left = || texts().filter(|parameter| !not.contains(&parameter.name));
            let named = words.iter().find_map(|word| left().find(|parameter| hits(parameter.name, &[word]) > 0));
            let described =
                || words.iter().find_map(|word| left().find(|parameter| hits(parameter.description, &[word]) > 0));
            named.or_else(described).map(|parameter| parameter.name)
        };
        let path = find(&["path", "file", "filename", "filepath"], &[])?;
        let old =
            find(&["old", "search", "find", "before", "existing", "original", "replaced", "current", "from"], &[path])?;
        let new = find(&["new", "replacement", "after", "with", "updated", "replace", "to"], &[path, old])?;
        let operation = self.parameters.iter().find(|parameter| !parameter.choices.is_empty());
        let choice = |words: &[&str]| {
            let choices = &operation?.choices;
            // The words are in the order of how well they fit.
            words
                .iter()
                .find_map(|word| choices.iter().find(|choice| hits(choice, &[word]) > 0))
                .map(|choice| (*choice).to_owned())
        };
        let operation = match operation {
            Some(parameter) => {
                let replace = choice(&["replace", "edit", "substitute", "modify", "update"])?;
                Some((parameter.name.to_owned(), replace, choice(&["view", "show", "open", "read", "cat", "print"])))
            }
            None => None,
        };
        Some(Edit {
            name: self.name.to_owned(),
            path: path.to_owned(),
            old: old.to_owned(),
            new: new.to_owned(),
            operation,
            range: self.range(),
        })
    }

    fn range(&self) -> Option<Range> {
        let named = |kinds: &[&str], words: &[&str]| {
            let fits = |parameter: &&Parameter<'_>| kinds.contains(&parameter.kind) && hits(parameter.name, words) > 0;
            self.parameters.iter().find(fits).map(|parameter| parameter.name.to_owned())
        };
        let pair = named(&["array"], &["range", "lines", "view", "span"]).map(Range::Pair);
        let numbers = ["integer", "number"];
        pair.or_else(|| {
            Some(Range::Ends(
                named(&numbers, &["start", "from", "first", "begin"])?,
                named(&numbers, &["end", "to", "last", "stop"])?,
            ))
        })
    }

    pub(super) fn submit(&self) -> Option<(String, Map<String, Value>)> {
        const WORDS: [&str; 9] =
            ["submit", "finish", "finished", "done", "complete", "final", "finalize", "end", "ready"];
        let works = hits(self.description, &["command", "shell", "file", "files", "edit", "text"]) > 0;
        let described = hits(self.description, &WORDS) > 0 && !works;
        let fits = hits(self.name, &WORDS) > 0 || described;
        fits.then(|| {
            (self.name.to_owned(), self.parameters.iter().filter(|parameter| parameter.required).map(filled).collect())
        })
    }
}

/// Something for a parameter that has to be there.
fn filled(parameter: &Parameter<'_>) -> (String, Value) {
    let value = match parameter.kind {
        "boolean" => json!(true),
        "integer" | "number" => json!(60),
        "array" => json!([]),
        "object" => json!({}),
        _ => json!(parameter.choices.first().copied().unwrap_or("The change is made and looked over.")),
    };
    (parameter.name.to_owned(), value)
}

/// How many of `words` a name or a description has.
pub(in crate::agent) fn hits(text: &str, words: &[&str]) -> usize {
    let mut spaced = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        // `oldString` has two words.
        if c.is_uppercase() && spaced.ends_with(char::is_lowercase) {
            spaced.push(' ');
        }
        spaced.extend(c.to_lowercase());
    }
    spaced.split(|c: char| !c.is_alphanumeric()).filter(|word| words.contains(word)).count()
}
