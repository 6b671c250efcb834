//! How servers say that a conversation no longer fits: the status is the same as for any other mistake, so that only the words tell.

/// What to look for, in lower case, and who says so.
const SIGNS: [(&str, &str); 15] = [
    ("OpenAI's code", "context_length_exceeded"),
    ("OpenAI, vLLM, SGLang", "maximum context length"),
    ("vLLM, a prompt alone too long", "longer than the maximum model length"),
    ("vLLM's renderer", "model's context length is only"),
    ("vLLM, with what an image or a prefix adds", "too long to fit into the model"),
    ("vLLM, no room for an answer", "max_tokens must be at least 1, got"),
    ("vLLM, no room for an answer", "max_completion_tokens must be at least 1, got"),
    ("SGLang, a prompt alone too long", "longer than the model's context length"),
    ("SGLang's scheduler", "exceeds the maximum allowed length"),
    ("llama.cpp", "exceeds the available context size"),
    ("llama.cpp's type", "exceed_context_size_error"),
    ("llama-cpp-python", "exceed context window of"),
    ("TGI", "`inputs` tokens + `max_new_tokens` must be"),
    ("Anthropic and its proxies", "prompt is too long"),
    ("TensorRT-LLM", "exceeds maximum input length"),
];

/// Whether an error says that the conversation is too long.
pub(super) fn is_overflow(status: u16, said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    status == 413 || SIGNS.iter().any(|(_, sign)| said.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::is_overflow;

    #[test]
    fn every_servers_words_for_a_full_context_are_understood() {
        for said in [
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
            "This model's maximum context length is 4096 tokens. However, you requested 4100 tokens in the messages, Please reduce the length",
            "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
            "You passed 120001 input tokens and requested 20000 output tokens. However, the model's context length is only 131072 tokens, resulting in a maximum input length of 111072 tokens.",
            "The decoder prompt (length 9000) is too long to fit into the model",
            "Input length (140000 tokens) exceeds the maximum allowed length (131066 tokens). Use a shorter input or enable --allow-auto-truncate.",
            "max_tokens must be at least 1, got -12.",
            "Requested token count exceeds the model's maximum context length of 131072 tokens.",
            "The input (140000 tokens) is longer than the model's context length (131072 tokens).",
            "the request exceeds the available context size, try increasing it",
            "Requested tokens (5012) exceed context window of 4096",
            r#"{"error":{"code":"context_length_exceeded"}}"#,
            "prompt is too long: 208310 tokens > 200000 maximum",
        ] {
            assert!(is_overflow(400, said), "{said}");
        }
        assert!(is_overflow(413, "Payload Too Large"));
    }

    #[test]
    fn other_refusals_are_not_mistaken_for_it() {
        for said in
            ["model not found", "temperature must be at most 2", "invalid tool schema", "context deadline exceeded"]
        {
            assert!(!is_overflow(400, said), "{said}");
        }
    }
}
