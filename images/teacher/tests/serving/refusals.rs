//! Requests and models that cannot be served: each is told what is wrong with it, by name.

use serde_json::json;

use crate::http;
use crate::models::Folder;
use crate::program::{Server, asking, fails};

#[test]
fn what_is_wrong_with_a_request_is_said_in_the_protocols_shape() {
    let folder = Folder::talker();
    let server = Server::start(&folder.path(), &["--max-model-len", "64"]);
    let long = "word ".repeat(100);
    for (request, status, code, field) in [
        (asking("x", &json!({"n": 2})), 400, "invalid_value", json!("n")),
        (asking("x", &json!({"tool_choice": "required"})), 400, "invalid_value", json!("tool_choice")),
        (
            asking("x", &json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})),
            400,
            "invalid_value",
            json!("messages[0].content[0].type"),
        ),
        (asking("x", &json!({"model": "gpt-5"})), 404, "model_not_found", json!("model")),
        (asking(&long, &json!({})), 400, "context_length_exceeded", json!("messages")),
        (asking("x", &json!({"max_tokens": 63})), 400, "context_length_exceeded", json!("messages")),
        (json!("no request"), 400, "invalid_request", json!(null)),
    ] {
        let response = server.complete(&request);
        let error = response.json()["error"].clone();
        assert_eq!((response.status, &error["code"], &error["param"]), (status, &json!(code), &field), "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty() && error["type"] == "invalid_request_error");
    }
    assert_eq!(server.metric("sera_serving_refusals_total{status=\"400\"}"), 6);
    let nowhere = http::send(&server.address, "GET", "/v1/completions", "").unwrap();
    assert_eq!((nowhere.status, &nowhere.json()["error"]["code"]), (404, &json!("not_found")));
    assert_eq!(server.complete(&asking("x", &json!({"max_tokens": 3}))).status, 200, "it still answers");
}

#[test]
fn a_model_that_cannot_be_served_ends_it_with_a_line_that_says_why() {
    let folder = Folder::talker();
    let path = folder.path();
    let (code, said) = fails(&path, &["--max-model-len", "100000"]);
    assert!(code == 10 && said.contains("--max-model-len 100000") && said.contains("65536"), "{code}: {said}");
    let (code, said) = fails(&path, &["--kv-cache-memory", "64KiB"]);
    assert!(code == 10 && said.contains("--kv-cache-memory") && said.contains("65536 tokens"), "{code}: {said}");
    let (code, said) = fails(&path.join("nowhere"), &[]);
    assert!(code == 10 && said.contains("nowhere"), "{code}: {said}");
    std::fs::write(folder.path().join("broken.gguf"), "GGUF and no more").unwrap();
    let (code, said) = fails(&path.join("broken.gguf"), &[]);
    assert!(code == 10 && said.contains("broken.gguf is not a GGUF file"), "{code}: {said}");
    let weights = std::fs::read(path.join("model.safetensors")).unwrap();
    std::fs::write(path.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    let (code, said) = fails(&path, &[]);
    assert!(code == 10 && said.contains("model.safetensors"), "{code}: {said}");
    std::fs::remove_file(path.join("tokenizer.json")).unwrap();
    std::fs::write(path.join("model.safetensors"), &weights).unwrap();
    let (code, said) = fails(&path, &[]);
    assert!(code == 10 && said.contains("tokenizer.json"), "{code}: {said}");
    std::fs::remove_file(path.join("config.json")).unwrap();
    std::fs::remove_file(path.join("broken.gguf")).unwrap();
    let (code, said) = fails(&path, &[]);
    assert!(code == 10 && said.contains("neither a config.json nor"), "{code}: {said}");
}
