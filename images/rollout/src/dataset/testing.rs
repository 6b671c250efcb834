//! Trajectories, and a student whose tokenizer is tiny and whose chat template is Qwen3's, for tests.

use std::path::{Path, PathBuf};

use sera_crds::contract::{CONTRACT_VERSION, Message, RolloutKind, StudentPlan, ToolCall, Trajectory};
use sera_crds::values::ToolCallFormat;
use serde_json::json;

use super::student::Student;
use crate::agent::marked;

/// The tiny student's directory.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../trainer/chat/tests/tiny")
}

/// The tiny student.
pub(super) fn student(format: ToolCallFormat, context_length: u32) -> Student {
    let plan = StudentPlan { tool_call_format: format, context_length, min_kept_ratio: "0.88".parse().unwrap() };
    Student::open(&folder(), &plan).unwrap()
}

/// A turn with thinking and a call.
pub(super) fn turn(id: &str, thinking: &str, name: &str, arguments: serde_json::Value) -> Message {
    let serde_json::Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    Message::Assistant {
        content: String::new(),
        reasoning: Some(thinking.to_owned()),
        tool_call: ToolCall { id: id.to_owned(), name: name.to_owned(), arguments },
        usage: None,
    }
}

/// What a tool answers.
pub(super) fn answer(id: &str, content: &str) -> Message {
    Message::Tool { tool_call_id: id.to_owned(), content: marked(content), review: false }
}

/// A trajectory of some exchanges, a review and the end: `2 * exchanges + 5` messages.
pub(super) fn trajectory(exchanges: usize) -> Trajectory {
    let mut messages = vec![
        Message::System { content: "You work in /testbed.".to_owned() },
        Message::User { content: "Something about `Sessão.close` in src/ä.py seems wrong.".to_owned() },
    ];
    for n in 0..exchanges {
        let id = format!("call-{n}");
        let arguments = json!({"timeout": 2.5, "command": format!("grep -n \"é{n}\" <src> & sed 's/a/b/'\n"), "a": {"z": 1, "b": [true, null]}});
        messages.push(turn(&id, &format!("Look at place {n}, then édit it."), "bash", arguments));
        messages.push(answer(&id, &format!("src/ä.py:{n}: return 日本{n}\n[exit code 0]")));
    }
    messages.push(turn("first-submit", "All done.", "submit", json!({})));
    messages.push(Message::Tool {
        tool_call_id: "first-submit".into(),
        content: marked(&"Look it over. ".repeat(200)),
        review: true,
    });
    messages.push(turn("second-submit", "It is right.", "submit", json!({})));
    let (version, rehearsal) = (CONTRACT_VERSION, false);
    Trajectory { version, sample: 7, rollout: RolloutKind::Second, rehearsal, tools: tools(), messages }
}

fn tools() -> Vec<serde_json::Value> {
    vec![
        json!({"type": "function", "function": {"name": "bash", "description": "Runs <a> command & größer", "parameters": {"type": "object", "required": ["command"], "properties": {"command": {"type": "string"}, "timeout": {"type": "number", "default": 1e-7}}}}}),
        json!({"type": "function", "function": {"name": "submit", "parameters": {"type": "object", "properties": {}}}}),
    ]
}
