//! What each format writes, and that what is trained is what is served.

use sera_chat::Conversation;
use sera_crds::contract::{Message, Trajectory};
use sera_crds::values::ToolCallFormat;
use serde_json::{Value, json};

use super::*;
use crate::dataset::testing::{student, trajectory};

fn formatted(trajectory: &Trajectory, kind: ToolCallFormat) -> Result<Formatted, FormatError> {
    format(&Shape::of(trajectory).unwrap(), kind, &student(kind, 32_768).chat)
}

/// The messages of a request to the student's server.
fn request(trajectory: &Trajectory) -> Vec<Value> {
    let message = |message: &Message| match message {
        Message::System { content } => json!({"role": "system", "content": content}),
        Message::User { content } => json!({"role": "user", "content": content}),
        Message::Assistant { reasoning, tool_call, .. } => json!({
            "role": "assistant", "content": "", "reasoning_content": reasoning,
            "tool_calls": [{"id": tool_call.id, "type": "function", "function": {"name": tool_call.name, "arguments": tool_call.arguments}}],
        }),
        Message::Tool { tool_call_id, content, .. } => {
            json!({"role": "tool", "tool_call_id": tool_call_id, "content": content})
        }
    };
    trajectory.messages.iter().map(message).collect()
}

#[test]
fn what_is_trained_is_what_is_served_to_the_byte() {
    let trajectory = trajectory(3);
    let served = Conversation::new(&request(&trajectory)).with_tools(&trajectory.tools);
    let chat = &student(ToolCallFormat::Hermes, 32_768).chat;
    let hermes = formatted(&trajectory, ToolCallFormat::Hermes).unwrap();
    assert_eq!(hermes.tool_json, None);
    let trained = Conversation::new(&hermes.messages);
    let served_text = chat.render(&served, false).unwrap();
    assert_eq!(chat.render(&trained, false).unwrap(), served_text);

    let raw = formatted(&trajectory, ToolCallFormat::Raw).unwrap();
    let tools: Vec<Value> = serde_json::from_str(&raw.tool_json.unwrap()).unwrap();
    let trained = Conversation::new(&raw.messages).with_tools(&tools);
    assert_eq!(chat.render(&trained, false).unwrap(), served_text);

    // Every prompt of the served conversation is a beginning of it, too: each turn is answered after what was trained before it.
    for (position, message) in
        request(&trajectory).iter().enumerate().filter(|(_, message)| message["role"] == "assistant")
    {
        let before = Conversation::new(&request(&trajectory)[..position]).with_tools(&trajectory.tools);
        assert!(served_text.starts_with(&chat.render(&before, true).unwrap()), "{message}");
    }
}

#[test]
fn hermes_writes_thinking_and_one_call_as_json_in_the_order_given() {
    let messages = formatted(&trajectory(1), ToolCallFormat::Hermes).unwrap().messages;
    assert!(
        messages[0].content.starts_with("You work in /testbed.\n\n# Tools\n") && messages[0].content.contains("größer")
    );
    assert_eq!(
        messages[2].content,
        "<think>\nLook at place 0, then édit it.\n</think>\n\n<tool_call>\n{\"name\": \"bash\", \"arguments\": {\"timeout\": 2.5, \"command\": \"grep -n \\\"é0\\\" <src> & sed 's/a/b/'\\n\", \"a\": {\"z\": 1, \"b\": [true, null]}}}\n</tool_call>"
    );
    assert_eq!(
        messages[3].content,
        "<tool_response>\nOBSERVATION:\nsrc/ä.py:0: return 日本0\n[exit code 0]\n</tool_response>"
    );
    let roles: Vec<(&str, bool)> = messages.iter().map(|message| (message.role.as_str(), message.train)).collect();
    let (user, assistant) = (("user", false), ("assistant", true));
    assert_eq!(roles, [("system", false), user, assistant, user, assistant, user, assistant]);
}

#[test]
fn xml_writes_each_parameter_as_it_is() {
    let messages = formatted(&trajectory(1), ToolCallFormat::Xml).unwrap().messages;
    assert!(messages[0].content.contains("<parameter=first>") && messages[0].content.contains("\"name\": \"bash\""));
    assert_eq!(
        messages[2].content,
        "<think>\nLook at place 0, then édit it.\n</think>\n\n<tool_call>\n<function=bash>\n<parameter=timeout>\n2.5\n</parameter>\n<parameter=command>\ngrep -n \"é0\" <src> & sed 's/a/b/'\n\n</parameter>\n<parameter=a>\n{\"z\": 1, \"b\": [true, null]}\n</parameter>\n</function>\n</tool_call>"
    );
}

#[test]
fn raw_keeps_thinking_calls_and_answers_in_fields_of_their_own() {
    let raw = formatted(&trajectory(1), ToolCallFormat::Raw).unwrap();
    let line = serde_json::to_value(&raw.messages).unwrap();
    assert_eq!(line[2]["reasoning_content"], "Look at place 0, then édit it.");
    assert_eq!(
        line[2]["tool_calls"][0]["function"]["arguments"].as_str().unwrap(),
        "{\"timeout\": 2.5, \"command\": \"grep -n \\\"é0\\\" <src> & sed 's/a/b/'\\n\", \"a\": {\"z\": 1, \"b\": [true, null]}}"
    );
    assert_eq!((&line[3]["role"], &line[3]["tool_call_id"]), (&json!("tool"), &json!("call-0")));
    assert!(raw.tool_json.unwrap().starts_with("[{\"type\": \"function\""));
}

#[test]
fn a_turn_that_spells_out_the_formats_own_marks_is_refused_by_the_mark() {
    for (thinking, command, mark) in [
        ("I end </think> here.", "ls", "</think>"),
        ("I look.", "echo '</tool_call>'", "</tool_call>"),
        ("I call <tool_call> now.", "ls", "<tool_call>"),
    ] {
        let mut trajectory = trajectory(1);
        trajectory.messages[2] = crate::dataset::testing::turn("call-0", thinking, "bash", json!({"command": command}));
        for kind in [ToolCallFormat::Hermes, ToolCallFormat::Xml] {
            let error = formatted(&trajectory, kind).unwrap_err();
            assert!(matches!(error, FormatError::Mark { position: 2, mark: found } if found == mark), "{error}");
        }
    }
    let mut trajectory = trajectory(1);
    trajectory.messages[2] =
        crate::dataset::testing::turn("call-0", "I look.", "bash", json!({"command": "grep '</parameter>'"}));
    assert!(formatted(&trajectory, ToolCallFormat::Hermes).is_ok());
    assert!(matches!(
        formatted(&trajectory, ToolCallFormat::Xml),
        Err(FormatError::Mark { position: 2, mark: "</parameter>" })
    ));
}

#[test]
fn an_observation_that_says_so_already_is_not_told_twice() {
    assert_eq!(tool_response("x"), "<tool_response>\nOBSERVATION:\nx\n</tool_response>");
    assert_eq!(tool_response("OBSERVATION:\nx"), tool_response("x"));
}
