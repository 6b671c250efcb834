//! A chat completion as it is asked of a model. A field that is understood is checked, one that would change the answer in a way that is not there is
//! refused by name, and so is one that is not known: nothing that was asked for is passed over in silence.

mod fields;
mod messages;

use serde_json::{Map, Value};

use crate::http::Refusal;
use fields::Fields;

/// The most stop texts, as in OpenAI's protocol.
const STOPS: usize = 4;

/// Fields that say who asks and what for, and change nothing.
const PASSED_OVER: [&str; 6] = ["metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user"];

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    /// As chat templates take them.
    pub(crate) messages: Vec<Value>,
    /// The tools that may be called, as they were given.
    pub(crate) tools: Vec<Value>,
    /// Whether more than one may be called in an answer.
    pub(crate) several_calls: bool,
    /// Variables for the chat template, such as `enable_thinking`.
    pub(crate) variables: Map<String, Value>,
    pub(crate) stream: bool,
    /// Whether a stream ends with the counts.
    pub(crate) include_usage: bool,
    pub(crate) temperature: f64,
    pub(crate) top_p: f64,
    pub(crate) seed: Option<u64>,
    /// The most tokens that the answer may have.
    pub(crate) limit: Option<usize>,
    /// Texts that end it.
    pub(crate) stops: Vec<String>,
}

impl ChatRequest {
    /// Reads the body of a request.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let invalid = |message: String| Refusal::invalid("invalid_request", message);
        let body: Value =
            serde_json::from_slice(body).map_err(|error| invalid(format!("the request is not JSON: {error}")))?;
        let Value::Object(body) = body else { return Err(invalid("the request is not a JSON object".to_owned())) };
        let mut fields = Fields::new(body);
        let request = Self {
            model: fields.take("model", "the name of a model", fields::text)?.ok_or_else(|| missing("model"))?,
            messages: messages::messages(fields.array("messages")?.ok_or_else(|| missing("messages"))?)?,
            tools: tools(&mut fields)?,
            several_calls: fields.flag("parallel_tool_calls")?.unwrap_or(true),
            variables: fields.object("chat_template_kwargs")?.unwrap_or_default(),
            stream: fields.flag("stream")?.unwrap_or_default(),
            include_usage: include_usage(&mut fields)?,
            temperature: fields
                .number("temperature", "a number from 0 to 2", |number| (0.0..=2.0).contains(&number))?
                .unwrap_or(1.0),
            top_p: fields
                .number("top_p", "a number above 0, up to 1", |number| number > 0.0 && number <= 1.0)?
                .unwrap_or(1.0),
            seed: fields.take("seed", "a whole number", |seed| seed.as_i64().map(i64::cast_unsigned))?,
            limit: limit(&mut fields)?,
            stops: stops(&mut fields)?,
        };
        refuse_what_is_not_there(&mut fields)?;
        PASSED_OVER.iter().for_each(|name| fields.pass_over(name));
        fields.refuse_the_rest()?;
        Ok(request)
    }
}

fn missing(field: &str) -> Refusal {
    Refusal::field(field, format!("`{field}` is missing"))
}

/// The tools, if they may be called.
fn tools(fields: &mut Fields) -> Result<Vec<Value>, Refusal> {
    let tools = fields.array("tools")?.unwrap_or_default();
    for (at, tool) in tools.iter().enumerate() {
        let field = |part: &str| format!("tools[{at}]{part}");
        if tool["type"] != "function" {
            return Err(Refusal::field(field(".type"), format!("`{}` is not \"function\"", field(".type"))));
        }
        if tool["function"]["name"].as_str().is_none_or(str::is_empty) {
            return Err(Refusal::field(
                field(".function.name"),
                format!("`{}` is not a name", field(".function.name")),
            ));
        }
    }
    let choice =
        fields.take("tool_choice", "\"auto\" or \"none\"; a model cannot be made to call a tool here", |choice| {
            choice.as_str().filter(|choice| ["auto", "none"].contains(choice)).map(|choice| choice == "auto")
        })?;
    Ok(if choice.unwrap_or(true) { tools } else { Vec::new() })
}

fn include_usage(fields: &mut Fields) -> Result<bool, Refusal> {
    let Some(options) = fields.object("stream_options")? else { return Ok(false) };
    let mut options = Fields::within("stream_options", options);
    let include = options.flag("include_usage")?.unwrap_or_default();
    // Padding against whoever measures the lengths of pieces: there is none here.
    options.neutral("include_obfuscation", &[Value::Bool(false)])?;
    options.refuse_the_rest()?;
    Ok(include)
}

fn limit(fields: &mut Fields) -> Result<Option<usize>, Refusal> {
    let mut limit = |name: &str| {
        fields.take(name, "a number of tokens, at least 1", |limit| {
            limit.as_u64().filter(|limit| *limit > 0).map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
        })
    };
    let (old, new) = (limit("max_tokens")?, limit("max_completion_tokens")?);
    Ok(new.or(old))
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    let stops = fields.take("stop", "a text or a list of up to 4 texts, none of them empty", |stop| {
        let stops = match stop {
            Value::Array(stops) if stops.len() <= STOPS => {
                stops.iter().map(fields::text).collect::<Option<Vec<_>>>()?
            }
            Value::String(stop) => vec![stop.clone()],
            _ => return None,
        };
        stops.iter().all(|stop| !stop.is_empty()).then_some(stops)
    })?;
    Ok(stops.unwrap_or_default())
}

/// Fields of the protocol that ask for what is not there, unless they ask for what is done anyway.
fn refuse_what_is_not_there(fields: &mut Fields) -> Result<(), Refusal> {
    let object = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let neutral = [
        ("n", vec![object("1")]),
        ("frequency_penalty", vec![object("0"), object("0.0")]),
        ("presence_penalty", vec![object("0"), object("0.0")]),
        ("repetition_penalty", vec![object("1"), object("1.0")]),
        ("top_k", vec![object("0"), object("-1")]),
        ("min_p", vec![object("0"), object("0.0")]),
        ("logprobs", vec![object("false")]),
        ("top_logprobs", vec![object("0")]),
        ("logit_bias", vec![object("{}")]),
        ("response_format", vec![object(r#"{"type":"text"}"#)]),
        ("modalities", vec![object(r#"["text"]"#)]),
    ];
    neutral.iter().try_for_each(|(name, values)| fields.neutral(name, values))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn with(more: &Value) -> Result<ChatRequest, Refusal> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ChatRequest::parse(body.to_string().as_bytes())
    }

    fn field(more: &Value) -> String {
        let refusal = with(more).unwrap_err();
        assert_eq!(refusal.status, 400);
        let field = refusal.field.clone().unwrap_or_default();
        assert!(refusal.message.contains(&field), "{refusal:?}");
        field
    }

    #[test]
    fn what_is_asked_is_read() {
        let tool = json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}});
        let request = with(
            &json!({"tools": [tool], "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.5, "top_p": 0.9,
            "seed": -3, "max_tokens": 7, "max_completion_tokens": 9, "stop": ["a", "b"], "n": 1, "user": "u", "frequency_penalty": 0,
            "chat_template_kwargs": {"enable_thinking": false}, "parallel_tool_calls": false}),
        );
        let request = request.unwrap();
        assert_eq!(
            (request.tools, request.several_calls, request.stream, request.include_usage),
            (vec![tool.clone()], false, true, true)
        );
        assert_eq!(
            (request.temperature, request.top_p, request.seed, request.limit),
            (0.5, 0.9, Some((-3_i64).cast_unsigned()), Some(9))
        );
        assert_eq!(
            (request.stops, request.variables["enable_thinking"].clone()),
            (vec!["a".to_owned(), "b".to_owned()], json!(false))
        );
        assert!(with(&json!({"tools": [tool], "tool_choice": "none"})).unwrap().tools.is_empty());
        let plain = with(&json!({"seed": null, "stop": null, "tools": null})).unwrap();
        assert_eq!((plain.temperature, plain.top_p, plain.limit, plain.several_calls), (1.0, 1.0, None, true));
    }

    #[test]
    fn a_field_that_is_wrong_or_not_there_is_named() {
        let tool = |tool: Value| json!({"tools": [tool]});
        for (more, named) in [
            (json!({"messages": "hello"}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"model": 3}), "model"),
            (json!({"n": 2}), "n"),
            (json!({"temperature": 3}), "temperature"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"top_p": 0}), "top_p"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"max_completion_tokens": 1.5}), "max_completion_tokens"),
            (json!({"stop": ["a", ""]}), "stop"),
            (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
            (json!({"stream": "yes"}), "stream"),
            (json!({"stream_options": {"include_all": true}}), "stream_options.include_all"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}), "tool_choice"),
            (tool(json!({"type": "retrieval"})), "tools[0].type"),
            (tool(json!({"type": "function", "function": {}})), "tools[0].function.name"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"response_format": {"type": "json_object"}}), "response_format"),
            (json!({"presence_penalty": 0.5}), "presence_penalty"),
            (json!({"temprature": 1}), "temprature"),
        ] {
            assert_eq!(field(&more), named, "{more}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for body in ["", "{", "[]", "null", "\u{0}", "{\"model\": \"m\"}", "{\"messages\": []}"] {
            assert_eq!(ChatRequest::parse(body.as_bytes()).unwrap_err().status, 400, "{body}");
        }
        let deep = format!("{{\"model\":{}", "[".repeat(100_000));
        assert_eq!(ChatRequest::parse(deep.as_bytes()).unwrap_err().status, 400);
    }

    /// Any JSON, with the protocol's names among its keys.
    fn anything() -> impl Strategy<Value = Value> {
        let name = prop::sample::select(vec![
            "role",
            "content",
            "type",
            "text",
            "tool_calls",
            "function",
            "name",
            "arguments",
            "id",
            "tool_call_id",
            "reasoning_content",
            "x",
        ]);
        let word = prop::sample::select(vec![
            "user",
            "assistant",
            "tool",
            "system",
            "function",
            "text",
            "",
            "{}",
            "{\"a\":1}",
            "é",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            word.prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((name.clone(), inner), 0..6).prop_map(|pairs| {
                    Value::Object(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(refusal) = ChatRequest::parse(&body) {
                prop_assert_eq!(refusal.status, 400);
            }
        }

        #[test]
        fn any_values_of_known_fields_are_read_or_refused_with_the_fields_name(
            values in prop::collection::vec((prop::sample::select(vec![
                "messages", "tools", "tool_choice", "stop", "stream", "stream_options", "temperature", "seed", "max_tokens", "n", "logit_bias",
                "chat_template_kwargs", "metadata", "parallel_tool_calls", "model",
            ]), anything()), 1..5),
            messages in prop::collection::vec(anything(), 0..4),
        ) {
            let mut body = json!({"model": "m", "messages": messages});
            for (name, value) in &values {
                body[*name] = value.clone();
            }
            match ChatRequest::parse(body.to_string().as_bytes()) {
                Ok(request) => {
                    prop_assert!(!request.messages.is_empty());
                    prop_assert!(request.messages.iter().all(|message| message["content"].is_string()));
                    prop_assert!((0.0..=2.0).contains(&request.temperature) && request.limit != Some(0));
                }
                Err(refusal) => {
                    prop_assert_eq!(refusal.status, 400);
                    let field = refusal.field.clone().expect("it is a JSON object: a field is wrong");
                    let name = field.split(['.', '[']).next().unwrap_or_default();
                    prop_assert!(body.get(name).is_some(), "{:?} speaks of what was not sent", refusal);
                }
            }
        }
    }
}
