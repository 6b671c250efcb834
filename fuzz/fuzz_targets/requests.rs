//! Bodies of chat completions, as the model server is sent them: refused in words, or read into messages with a text each, which a chat template then
//! renders or refuses.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sera_chat::{Chat, Conversation};
use sera_teacher::templates_input;

static CHAT: LazyLock<Chat> = LazyLock::new(|| {
    Chat::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../trainer/chat/tests/tiny"))).unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    match templates_input(bytes) {
        Ok((messages, tools)) => {
            assert!(!messages.is_empty() && messages.iter().all(|message| message["content"].is_string()));
            // What a template refuses is the request's fault too, and is said.
            let _ = CHAT.render(&Conversation::new(&messages).with_tools(&tools), true);
        }
        Err(words) => assert!(!words.is_empty()),
    }
});
