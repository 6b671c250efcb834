//! A conversation in the shape that chat templates take: messages, tools and further variables, in the order in which they were given.

use std::collections::BTreeMap;

use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

/// The names under which a message's thinking is passed; the first is the one that templates read, as transformers has it.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Messages, tools and variables for a chat template.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Option<Value>,
    pub(crate) variables: BTreeMap<String, Value>,
}

/// One message, and what has to be known of it outside of the template.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) value: Value,
}

impl Message {
    /// As transformers hands it to templates: without the keys that have no value, and with its thinking under the name that they read.
    fn new(message: &impl Serialize) -> Self {
        let value = Value::from(Serde(message));
        let mut pairs = pairs(&value);
        let reasoning = REASONING.iter().find_map(|name| pairs.iter().find(|(key, _)| key == name));
        if let Some(reasoning) = reasoning.map(|(_, value)| value.clone()) {
            if pairs.iter().all(|(key, _)| key != "thinking") {
                pairs.insert(0, ("thinking".to_owned(), reasoning.clone()));
            }
            pairs.retain(|(key, _)| key != REASONING[0]);
            pairs.push((REASONING[0].to_owned(), reasoning));
        }
        let role = pairs.iter().find(|(key, _)| key == "role").and_then(|(_, role)| role.as_str());
        let role = role.unwrap_or_default().to_owned();
        Self { role, value: Value::from_pairs(pairs) }
    }
}

/// The entries of a mapping that have a value.
fn pairs(value: &Value) -> Vec<(String, Value)> {
    let keys = value.try_iter().into_iter().flatten();
    let pairs = keys.filter_map(|key| Some((key.to_string(), value.get_item(&key).ok()?)));
    pairs.filter(|(_, value)| !value.is_none() && !value.is_undefined()).collect()
}

impl Conversation {
    /// A conversation without tools. A message is a mapping with `role` and `content`, and whatever else its template reads.
    pub fn new<M: Serialize>(messages: &[M]) -> Self {
        Self { messages: messages.iter().map(Message::new).collect(), tools: None, variables: BTreeMap::new() }
    }

    /// The same, with tools as the `tools` of the protocol.
    #[must_use]
    pub fn with_tools<T: Serialize>(mut self, tools: &[T]) -> Self {
        self.tools = Some(tools.iter().map(|tool| Value::from(Serde(tool))).collect());
        self
    }

    /// The same, with a variable of the template, such as `enable_thinking`.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &impl Serialize) -> Self {
        self.variables.insert(name.to_owned(), Value::from(Serde(value)));
        self
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Other messages between the same tools and variables.
    pub(crate) fn of(&self, messages: Vec<Message>) -> Self {
        Self { messages, tools: self.tools.clone(), variables: self.variables.clone() }
    }

    /// A message of one line, in place of one whose text does not matter.
    pub(crate) fn placeholder(role: &str) -> Message {
        let value = Value::from_pairs([("role", role), ("content", "-")]);
        Message { role: role.to_owned(), value }
    }
}
