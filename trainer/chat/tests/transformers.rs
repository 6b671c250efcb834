//! Our rendering and our tokens against those of Hugging Face transformers, as `oracle/render.py` and `oracle/draw.py` wrote them down.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

#[path = "support/qwen3.rs"]
mod qwen3;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sera_chat::{Chat, ChatTemplate, Conversation};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What is rendered.
#[derive(Deserialize)]
struct Asked {
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
    #[serde(default)]
    generation_prompt: bool,
    #[serde(default)]
    variables: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    template: String,
    #[serde(flatten)]
    asked: Asked,
}

/// A conversation that was drawn at random, and what became of it.
#[derive(Deserialize)]
struct Drawn {
    #[serde(flatten)]
    asked: Asked,
    /// The sha256 of the text.
    text: String,
    /// Qwen3's tokens.
    tokens: ExpectedTokens,
}

#[derive(Deserialize)]
struct Expected {
    text: String,
    tokens: BTreeMap<String, ExpectedTokens>,
}

#[derive(Deserialize)]
struct ExpectedTokens {
    count: usize,
    /// Of the ids as one JSON array without blanks.
    sha256: String,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(folder("oracle").join(name)).unwrap()).unwrap()
}

fn rendered(template: &ChatTemplate, asked: &Asked) -> String {
    let mut conversation = Conversation::new(&asked.messages);
    if let Some(tools) = &asked.tools {
        conversation = conversation.with_tools(tools);
    }
    let set = |conversation: Conversation, (name, value): (&String, &Value)| conversation.with_variable(name, value);
    template.render(&asked.variables.iter().fold(conversation, set), asked.generation_prompt).unwrap()
}

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The texts of the conversations that were drawn, each the bytes that transformers renders, with what is expected of its tokens.
fn drawn() -> Vec<(String, ExpectedTokens)> {
    let source = std::fs::read_to_string(folder("oracle/templates/qwen3.jinja")).unwrap();
    let template = ChatTemplate::new(&source, None, &BTreeMap::new()).unwrap();
    let lines = std::fs::read_to_string(folder("oracle/drawn.jsonl")).unwrap();
    let texts = lines.split_terminator('\n').enumerate().map(|(number, line)| {
        let drawn: Drawn = serde_json::from_str(line).unwrap();
        let text = rendered(&template, &drawn.asked);
        assert_eq!(sha256(&text), drawn.text, "conversation {number} is rendered otherwise:\n{text}");
        (text, drawn.tokens)
    });
    texts.collect()
}

#[test]
fn hundreds_of_conversations_drawn_at_random_are_rendered_to_the_bytes_that_transformers_renders() {
    assert_eq!(drawn().len(), 240);
}

#[test]
fn every_case_is_rendered_to_the_bytes_that_transformers_renders() {
    let expected: BTreeMap<String, Expected> = read("expected.json");
    let cases: Vec<Case> = read("cases.json");
    assert_eq!(cases.len(), expected.len());
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<|endoftext|>".to_owned())]);
    for case in cases {
        let source = std::fs::read_to_string(folder("oracle/templates").join(&case.template)).unwrap();
        let template = ChatTemplate::new(&source, None, &tokens).unwrap();
        let text = rendered(&template, &case.asked);
        assert_eq!(text, expected[&case.name].text, "{}", case.name);
    }
}

fn assert_tokens(chat: &Chat, tokenizer: &str) {
    for (name, Expected { text, tokens }) in read::<BTreeMap<String, Expected>>("expected.json") {
        let ids = chat.encode(&text).unwrap();
        assert_eq!(ids.len(), tokens[tokenizer].count, "{name}");
        assert_eq!(sha256(serde_json::to_vec(&ids).unwrap()), tokens[tokenizer].sha256, "{name}");
        assert_eq!(chat.count(&text).unwrap(), ids.len(), "{name}");
    }
}

#[test]
fn every_text_has_the_tokens_that_transformers_gives_it() {
    assert_tokens(&Chat::load(&folder("tiny")).unwrap(), "tiny");
}

#[test]
fn qwen3s_own_tokenizer_agrees_with_transformers_too_and_carries_the_template_of_the_cases() {
    let Some(models) = qwen3::directory("qwen3's own tokenizer") else { return };
    let chat = Chat::load(&models).unwrap();
    assert_tokens(&chat, "qwen3");
    let template = std::fs::read(folder("oracle/templates/qwen3.jinja")).unwrap();
    assert_eq!(chat.template_sha256(), sha256(template));
    for (number, (text, expected)) in drawn().into_iter().enumerate() {
        let ids = chat.encode(&text).unwrap();
        assert_eq!(ids.len(), expected.count, "conversation {number}:\n{text}");
        assert_eq!(sha256(serde_json::to_vec(&ids).unwrap()), expected.sha256, "conversation {number}:\n{text}");
    }
}
