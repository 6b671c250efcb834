//! What answers say, whole and in pieces: text, thinking, calls, counts, and what the model itself makes of it.

use sera_chat::Conversation;
use sera_trainer::generate::greedy;
use sera_trainer::inference::{Kept, Source};
use serde_json::{Value, json};

use crate::models::{CONTEXT, Folder};
use crate::program::{Server, asking};

fn tool() -> Value {
    json!({"type": "function", "function": {"name": "look", "description": "Shows a line.", "parameters": {"type": "object", "properties": {}}}})
}

/// The same request, streamed with its counts.
fn streaming(request: &Value) -> Value {
    let mut request = request.clone();
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    request
}

#[test]
fn thinking_text_and_calls_come_in_their_fields_whole_and_streamed() {
    let folder = Folder::caller();
    let server = Server::start(&folder.path(), &[]);
    let request = asking("Fix it.", &json!({"tools": [tool()]}));
    let answer = server.complete(&request).json();
    let message = &answer["choices"][0]["message"];
    assert_eq!((&message["reasoning_content"], &message["content"]), (&json!("I look."), &json!("Let me see.")));
    assert_eq!(
        message["tool_calls"][0]["function"],
        json!({"name": "look", "arguments": "{\"path\": \"ä.py\", \"line\": 3}"})
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(answer["usage"]["completion_tokens"], 8, "the one that ends it included");
    let response = server.complete(&streaming(&request));
    let (streamed, finish) = response.streamed();
    for field in ["content", "reasoning_content"] {
        assert_eq!(streamed[field], message[field]);
    }
    assert_eq!(
        (&streamed["tool_calls"][0]["function"], finish),
        (&message["tool_calls"][0]["function"], json!("tool_calls"))
    );
    assert!(response.body.contains("\"completion_tokens\":8"));
}

#[test]
fn a_turn_ends_an_answer_though_the_model_s_files_name_another_token() {
    let folder = Folder::caller();
    folder.change("config.json", |config| config["eos_token_id"] = json!(400));
    let server = Server::start(&folder.path(), &[]);
    let answer = server.complete(&asking("Fix it.", &json!({"tools": [tool()], "max_tokens": 20}))).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(answer["usage"]["completion_tokens"], 8, "the one that ends it included");
}

#[test]
fn without_tools_a_call_is_text() {
    let folder = Folder::caller();
    let server = Server::start(&folder.path(), &[]);
    for more in [json!({}), json!({"tools": [tool()], "tool_choice": "none"})] {
        let answer = server.complete(&asking("Fix it.", &more)).json();
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(content.starts_with("Let me see.\n<tool_call>\n{\"name\": \"look\""), "{content}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
}

#[test]
fn the_next_turn_finds_the_conversation_in_the_cache() {
    let folder = Folder::caller();
    let server = Server::start(&folder.path(), &[]);
    let mut request = asking("Fix it, and take care of what else there is.", &json!({"tools": [tool()]}));
    let first = server.complete(&request).json();
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let prompt = first["usage"]["prompt_tokens"].as_u64().unwrap();
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(first["choices"][0]["message"].clone());
    let id = first["choices"][0]["message"]["tool_calls"][0]["id"].clone();
    messages.push(json!({"role": "tool", "tool_call_id": id, "content": "line 3"}));
    let second = server.complete(&request).json();
    let cached = second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached >= prompt / 16 * 16, "{cached} of {prompt}");
    assert_eq!(server.metric("sera_serving_tokens_total{tokens=\"cached\"}"), cached);
}

#[test]
fn the_most_likely_answer_is_that_of_the_trainers_own_command() {
    let folder = Folder::random();
    let kinds = [("f32", Kept::F32), ("q8_0", Kept::Q8)];
    let contents = ["Fix it.", "What is the meaning of all this, and who has written it down for us to read?"];
    for ((dtype, kept), content) in kinds.into_iter().flat_map(|kind| contents.map(|content| (kind, content))) {
        let server = Server::start(&folder.path(), &["--prefill-chunk", "16", "--dtype", dtype]);
        let source = Source::open(&folder.path()).unwrap();
        let conversation = Conversation::new(&[json!({"role": "user", "content": content})]);
        let prompt = source.chat().encode(&source.chat().render(&conversation, true).unwrap()).unwrap();
        let (weights, chat) = source.load(kept).unwrap();
        let expected = greedy(weights, &prompt, &[402], 40).unwrap();
        let text = chat.decode_text(&expected, &[]).unwrap();
        let answer = server.complete(&asking(content, &json!({"max_tokens": 40}))).json();
        let message = &answer["choices"][0]["message"];
        assert_eq!(answer["usage"]["prompt_tokens"], prompt.len());
        assert_eq!(answer["usage"]["completion_tokens"], expected.len());
        assert_eq!(message["content"].as_str().unwrap().trim_start_matches('\n'), text.trim_start_matches('\n'));
    }
}

#[test]
fn limits_stops_and_seeds_are_kept_to() {
    let folder = Folder::talker();
    let server = Server::start(&folder.path(), &[]);
    let choice = |more: Value| server.complete(&asking("Go.", &more)).json()["choices"][0].clone();
    let short = choice(json!({"max_tokens": 5}));
    assert_eq!((&short["message"]["content"], &short["finish_reason"]), (&json!("abcde"), &json!("length")));
    let stopped = choice(json!({"stop": ["xyz", "ghi"]}));
    assert_eq!((&stopped["message"]["content"], &stopped["finish_reason"]), (&json!("abcdef"), &json!("stop")));
    let random = Folder::random();
    let server = Server::start(&random.path(), &[]);
    let drawn = |seed: u64| {
        let more = json!({"max_tokens": 30, "temperature": 1.5, "top_p": 0.95, "seed": seed});
        server.complete(&asking("Go.", &more)).json()["choices"][0]["message"].clone()
    };
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
}

#[test]
fn the_model_says_its_name_and_its_context() {
    let folder = Folder::talker();
    let server = Server::start(&folder.path(), &["--max-model-len", "512"]);
    let model = &server.get("/v1/models").json()["data"][0];
    assert_eq!((&model["id"], &model["max_model_len"]), (&json!("m"), &json!(512)));
    let whole = Server::start(&folder.path(), &[]);
    assert_eq!(whole.get("/v1/models").json()["data"][0]["max_model_len"], CONTEXT);
}
