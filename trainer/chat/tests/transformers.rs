//! Our rendering and our tokens against those of Hugging Face transformers, as `oracle/render.py` wrote them down.

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

#[derive(Deserialize)]
struct Case {
    name: String,
    template: String,
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
    #[serde(default)]
    generation_prompt: bool,
    #[serde(default)]
    variables: BTreeMap<String, Value>,
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

fn conversation(case: &Case) -> Conversation {
    let mut conversation = Conversation::new(&case.messages);
    if let Some(tools) = &case.tools {
        conversation = conversation.with_tools(tools);
    }
    case.variables.iter().fold(conversation, |conversation, (name, value)| conversation.with_variable(name, value))
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
        let text = template.render(&conversation(&case), case.generation_prompt).unwrap();
        assert_eq!(text, expected[&case.name].text, "{}", case.name);
    }
}

fn assert_tokens(chat: &Chat, tokenizer: &str) {
    for (name, Expected { text, tokens }) in read::<BTreeMap<String, Expected>>("expected.json") {
        let ids = chat.encode(&text).unwrap();
        assert_eq!(ids.len(), tokens[tokenizer].count, "{name}");
        let digest = Sha256::digest(serde_json::to_vec(&ids).unwrap());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, tokens[tokenizer].sha256, "{name}");
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
    let digest: String = Sha256::digest(template).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(chat.template_sha256(), digest);
}
