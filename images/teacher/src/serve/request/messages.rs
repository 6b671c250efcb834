//! The messages of a request, made what chat templates take: texts in one piece, arguments of calls as objects.

use serde_json::{Map, Value, json};

use super::fields::{self, Fields};
use crate::http::Refusal;

/// The names under which clients send an assistant's thinking back.
const REASONING: [&str; 2] = ["reasoning_content", "reasoning"];

/// The messages as templates take them; there is one at least.
pub(super) fn messages(messages: Vec<Value>) -> Result<Vec<Value>, Refusal> {
    if messages.is_empty() {
        return Err(Refusal::field("messages", "`messages` is empty"));
    }
    let numbered = messages.into_iter().enumerate();
    numbered.map(|(at, message)| self::message(&format!("messages[{at}]"), message)).collect()
}

fn message(field: &str, message: Value) -> Result<Value, Refusal> {
    let Value::Object(message) = message else {
        return Err(Refusal::field(field, format!("`{field}` is not an object")));
    };
    let mut fields = Fields::within(field, message);
    let role = fields.take("role", "one of system, developer, user, assistant, tool", role)?;
    let role = role.ok_or_else(|| Refusal::field(format!("{field}.role"), format!("`{field}.role` is missing")))?;
    let mut made = Map::new();
    made.insert("role".to_owned(), role.into());
    let content = fields.name("content");
    let text = match fields.take("content", "a text or a list of parts", |value| Some(value.clone()))? {
        None => String::new(),
        Some(value) => text(&content, &value)?,
    };
    made.insert("content".to_owned(), text.into());
    for name in REASONING {
        if let Some(thinking) = fields.take(name, "a text", fields::text)? {
            made.insert(REASONING[0].to_owned(), thinking.into());
        }
    }
    let calls = fields.name("tool_calls");
    let given = fields.array("tool_calls")?.unwrap_or_default();
    let given: Vec<_> = given
        .iter()
        .enumerate()
        .map(|(at, value)| call(&format!("{calls}[{at}]"), value))
        .collect::<Result<_, Refusal>>()?;
    if !given.is_empty() {
        made.insert("tool_calls".to_owned(), given.into());
    }
    for name in ["name", "tool_call_id"] {
        made.extend(fields.take(name, "a text", fields::text)?.map(|text| (name.to_owned(), text.into())));
    }
    // What clients send back of earlier answers, and says nothing to a model.
    ["annotations", "audio", "function_call", "refusal"]
        .iter()
        .try_for_each(|name| fields.neutral(name, &[Value::Null, json!([])]))?;
    fields.refuse_the_rest()?;
    Ok(Value::Object(made))
}

/// The role as templates know it: OpenAI's newer models have a *developer* where others have a *system*.
fn role(role: &Value) -> Option<&'static str> {
    match role.as_str()? {
        "system" | "developer" => Some("system"),
        "user" => Some("user"),
        "assistant" => Some("assistant"),
        "tool" => Some("tool"),
        _ => None,
    }
}

/// The text of a content, its parts put together.
fn text(field: &str, content: &Value) -> Result<String, Refusal> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let texts = parts.iter().enumerate().map(|(at, value)| part(&format!("{field}[{at}]"), value));
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        _ => Err(Refusal::field(field, format!("`{field}` is not a text or a list of parts"))),
    }
}

/// The text of one part.
fn part<'a>(field: &str, part: &'a Value) -> Result<&'a str, Refusal> {
    if part["type"] != "text" {
        let field = format!("{field}.type");
        return Err(Refusal::field(&field, format!("`{field}` is not \"text\": this model reads nothing else")));
    }
    let field = format!("{field}.text");
    part["text"].as_str().ok_or_else(|| Refusal::field(&field, format!("`{field}` is not a text")))
}

/// A call of an earlier answer. Its arguments come as text; templates write objects as the model was taught to.
fn call(field: &str, call: &Value) -> Result<Value, Refusal> {
    let Some(name) = call["function"]["name"].as_str() else {
        let field = format!("{field}.function.name");
        return Err(Refusal::field(&field, format!("`{field}` is not a name")));
    };
    let arguments = match &call["function"]["arguments"] {
        Value::Null => Value::Object(Map::new()),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(Value::Object(arguments)) => Value::Object(arguments),
            // What the model said is what it is shown.
            _ => Value::String(text.clone()),
        },
        Value::Object(arguments) => Value::Object(arguments.clone()),
        _ => {
            let field = format!("{field}.function.arguments");
            return Err(Refusal::field(&field, format!("`{field}` is not JSON of an object, as text")));
        }
    };
    let mut made = json!({"type": "function", "function": {"name": name, "arguments": arguments}});
    if let Some(id) = call["id"].as_str() {
        made["id"] = id.into();
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(message: Value) -> String {
        messages(vec![message]).unwrap_err().field.unwrap_or_default()
    }

    #[test]
    fn messages_become_what_templates_take() {
        let given = json!([
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "reasoning": "hm", "refusal": null, "annotations": [],
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": 2}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "done"},
        ]);
        let made = messages(given.as_array().unwrap().clone()).unwrap();
        assert_eq!(made[0], json!({"role": "system", "content": "a\nb"}));
        assert_eq!(made[1]["reasoning_content"], "hm");
        assert_eq!(made[1]["content"], "");
        assert_eq!(made[1]["tool_calls"][0]["function"]["arguments"].to_string(), r#"{"b":1,"a":2}"#);
        assert_eq!(made[2], json!({"role": "tool", "content": "done", "tool_call_id": "1"}));
    }

    #[test]
    fn arguments_that_are_no_object_stay_as_the_model_said_them() {
        let call = |arguments: &str| call("c", &json!({"function": {"name": "f", "arguments": arguments}})).unwrap();
        for said in ["{\"a\": ", "[1]", ""] {
            assert_eq!(call(said)["function"]["arguments"], said);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (message, named) in [
            (json!("hello"), "messages[0]"),
            (json!({"content": "x"}), "messages[0].role"),
            (json!({"role": "robot", "content": "x"}), "messages[0].role"),
            (json!({"role": "user", "content": 3}), "messages[0].content"),
            (json!({"role": "user", "content": [{"type": "image_url"}]}), "messages[0].content[0].type"),
            (json!({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text"),
            (json!({"role": "assistant", "tool_calls": [{}]}), "messages[0].tool_calls[0].function.name"),
            (
                json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 1}}]}),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (json!({"role": "user", "content": "x", "mood": "good"}), "messages[0].mood"),
        ] {
            assert_eq!(field(message), named);
        }
    }
}
