//! An agent's loop: the least that a client of the teacher does. It executes what it is told, in the repository.

use std::process::Command;

use serde_json::{Value, json};

use super::repository::Repository;
use super::teacher::Teacher;

/// The most turns of a rollout.
const MOST: usize = 60;

/// How a client talks about its tools.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `bash`, `str_replace_editor` and `submit`.
    Usual,
    /// The same under other names.
    Renamed,
    /// One tool that executes commands; a command submits.
    CommandsOnly,
}

#[derive(Debug)]
pub(crate) struct Rollout {
    pub(crate) messages: Vec<Value>,
    pub(crate) patch: String,
    pub(crate) submitted: bool,
}

/// The command by which a client without a tool for it submits.
pub(crate) const SUBMIT: &str = "echo HAND_IN_THE_WORK";

/// Lets the teacher work on a task until it submits.
pub(crate) fn rollout(
    teacher: &Teacher,
    repository: &Repository,
    system: &str,
    prompt: &str,
    dialect: Dialect,
) -> Rollout {
    repository.reset();
    let mut messages = vec![json!({"role": "system", "content": system}), json!({"role": "user", "content": prompt})];
    let mut submits = 0;
    for _ in 0..MOST {
        let message = teacher.complete(&request(&messages, dialect)).message();
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        assert_eq!(calls.len(), 1, "{message}");
        messages.push(message);
        let observation = match understood(&calls[0], dialect) {
            Call::Run(command) => run(repository, &command),
            Call::View(path, from, to) => view(&path, from, to),
            Call::Replace(path, old, new) => replace(&path, &old, &new),
            Call::Submit if submits == 0 && dialect == Dialect::Usual => {
                submits += 1;
                format!("These are your changes; submit again if they are right.\n<diff>\n{}</diff>", repository.diff())
            }
            Call::Submit => return Rollout { messages, patch: repository.diff(), submitted: true },
        };
        messages.push(json!({"role": "tool", "tool_call_id": calls[0]["id"], "content": observation}));
    }
    Rollout { messages, patch: repository.diff(), submitted: false }
}

/// The request for the next turn.
pub(crate) fn request(messages: &[Value], dialect: Dialect) -> Value {
    json!({"model": "rehearsal", "messages": messages, "tools": tools(dialect), "temperature": 0.6})
}

enum Call {
    Run(String),
    View(String, usize, usize),
    Replace(String, String, String),
    Submit,
}

fn understood(call: &Value, dialect: Dialect) -> Call {
    let name = call["function"]["name"].as_str().unwrap();
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    let text =
        |name: &str| arguments[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {arguments}")).to_owned();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    match (name, dialect) {
        ("bash", Dialect::CommandsOnly) if text("command") == SUBMIT => Call::Submit,
        ("bash", _) => Call::Run(text("command")),
        ("submit" | "hand_in", _) => Call::Submit,
        ("str_replace_editor", _) if arguments["command"] == "view" => {
            Call::View(text("path"), number(&arguments["view_range"][0]), number(&arguments["view_range"][1]))
        }
        ("str_replace_editor", _) => {
            assert_eq!(arguments["command"], "str_replace");
            Call::Replace(text("path"), text("old_str"), text("new_str"))
        }
        ("console", _) => Call::Run(text("input")),
        ("change_file", _) => Call::Replace(text("filename"), text("searchText"), text("replacementText")),
        other => panic!("no such tool: {:?}", other.0),
    }
}

fn tools(dialect: Dialect) -> Value {
    let tool = |name: &str, description: &str, properties: Value, required: &[&str]| {
        json!({"type": "function", "function": {"name": name, "description": description,
            "parameters": {"type": "object", "properties": properties, "required": required}}})
    };
    let bash = tool("bash", "Run a command in the shell.", json!({"command": {"type": "string"}}), &["command"]);
    match dialect {
        Dialect::CommandsOnly => json!([bash]),
        Dialect::Usual => json!([
            bash,
            tool(
                "str_replace_editor",
                "View, create and edit files.",
                json!({
                    "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "undo_edit"]},
                    "path": {"type": "string"},
                    "file_text": {"type": "string"},
                    "old_str": {"type": "string"},
                    "new_str": {"type": "string"},
                    "insert_line": {"type": "integer"},
                    "view_range": {"type": "array", "items": {"type": "integer"}},
                }),
                &["command", "path"],
            ),
            tool("submit", "Say that you are done.", json!({}), &[]),
        ]),
        Dialect::Renamed => json!([
            tool("hand_in", "Call this when you are finished.", json!({"remark": {"type": "string"}}), &["remark"]),
            tool(
                "change_file",
                "Replaces a text of a file by another.",
                json!({
                    "filename": {"type": "string", "description": "the file"},
                    "searchText": {"type": "string", "description": "the text to find"},
                    "replacementText": {"type": "string", "description": "what comes in its place"},
                }),
                &["filename", "searchText", "replacementText"],
            ),
            tool(
                "console",
                "Executes a shell command.",
                json!({"input": {"type": "string"}, "seconds": {"type": "integer"}}),
                &["input", "seconds"]
            ),
        ]),
    }
}

fn run(repository: &Repository, command: &str) -> String {
    let output = Command::new("bash")
        .args(["-c", command])
        .current_dir(repository.path())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn view(path: &str, from: usize, to: usize) -> String {
    let Ok(text) = std::fs::read_to_string(path) else { return format!("{path} does not exist") };
    let lines: Vec<&str> = text.split('\n').collect();
    if to > lines.len() {
        return format!("{path} has only {} lines", lines.len());
    }
    let numbered = lines
        .iter()
        .enumerate()
        .skip(from - 1)
        .take(to + 1 - from)
        .map(|(index, line)| format!("{:6}\t{line}\n", index + 1));
    format!("{path}, lines {from} to {to}:\n{}", numbered.collect::<String>())
}

fn replace(path: &str, old: &str, new: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    match text.matches(old).count() {
        1 => {
            std::fs::write(path, text.replace(old, new)).unwrap();
            "done".to_owned()
        }
        count => format!("the text stands {count} times in {path}"),
    }
}
