//! The tools that a teacher is offered, as the protocol describes them, and what a call of one means.

use sera_crds::contract::AgentLimits;
use sera_sandbox::wire::EditOperation;
use serde_json::{Map, Value, json};

use super::turn::Unusable;

/// What a call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tool {
    Bash { command: String },
    Edit(EditOperation),
    Submit,
}

/// The `tools` of every request: the same in both rollouts, as the student will be offered them.
pub(crate) fn definitions(limits: &AgentLimits) -> Vec<Value> {
    let timeout = limits.command_timeout.span().as_secs();
    let function = |name: &str, description: String, properties: Value, required: &[&str]| {
        json!({"type": "function", "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": properties, "required": required},
        }})
    };
    vec![
        function(
            "bash",
            format!("Run a command in the shell. Its working directory and exported variables last from call to call. A command that takes longer than {timeout} seconds is killed, with everything that it started."),
            json!({"command": {"type": "string", "description": "The command, or several lines of them."}}),
            &["command"],
        ),
        function(
            "str_replace_editor",
            "View, create and edit files. `view` shows a file with line numbers, or the files in a directory, two levels deep. `create` makes a file that does not exist yet. `str_replace` replaces a text that stands in the file exactly once, white space included. `insert` puts a text after a line. `undo_edit` takes back the last edit of a file.".to_owned(),
            json!({
                "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "undo_edit"], "description": "What to do."},
                "path": {"type": "string", "description": "The absolute path of the file or directory."},
                "file_text": {"type": "string", "description": "For create: the text of the new file."},
                "old_str": {"type": "string", "description": "For str_replace: the text to replace, with enough around it to be found once."},
                "new_str": {"type": "string", "description": "For str_replace: the new text; without it the old one is deleted. For insert: the text to put there."},
                "insert_line": {"type": "integer", "description": "For insert: the number of the line after which the text goes; 0 is the beginning of the file."},
                "view_range": {"type": "array", "items": {"type": "integer"}, "description": "For view of a file: its first and last line to show, such as [11, 40]; [11, -1] shows all from line 11."},
            }),
            &["command", "path"],
        ),
        function(
            "submit",
            "Say that you are done. The first call shows you your changes; the second hands them in.".to_owned(),
            json!({}),
            &[],
        ),
    ]
}

impl Tool {
    /// What a call of `name` with these arguments asks for.
    pub(super) fn read(name: &str, arguments: &Map<String, Value>) -> Result<Self, Unusable> {
        let arguments = Arguments(arguments);
        match name {
            "bash" => Ok(Self::Bash { command: arguments.text("command")? }),
            "submit" => Ok(Self::Submit),
            "str_replace_editor" => arguments.operation().map(Self::Edit),
            other => Err(Unusable::UnknownTool(other.to_owned())),
        }
    }
}

struct Arguments<'a>(&'a Map<String, Value>);

impl Arguments<'_> {
    fn operation(&self) -> Result<EditOperation, Unusable> {
        let path = self.text("path")?;
        Ok(match self.text("command")?.as_str() {
            "view" => EditOperation::View { path, range: self.range()? },
            "create" => EditOperation::Create { path, text: self.text("file_text")? },
            "str_replace" => EditOperation::StrReplace {
                path,
                old: self.text("old_str")?,
                new: self.optional_text("new_str")?.unwrap_or_default(),
            },
            "insert" => EditOperation::Insert { path, line: self.line()?, text: self.text("new_str")? },
            "undo_edit" => EditOperation::Undo { path },
            other => return Err(malformed(format!("the editor has no command '{other}'"))),
        })
    }

    fn optional_text(&self, name: &str) -> Result<Option<String>, Unusable> {
        match self.given(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(malformed(format!("'{name}' is no string"))),
        }
    }

    fn text(&self, name: &str) -> Result<String, Unusable> {
        self.optional_text(name)?.ok_or_else(|| missing(name))
    }

    fn line(&self) -> Result<u64, Unusable> {
        const NAME: &str = "insert_line";
        self.given(NAME)
            .ok_or_else(|| missing(NAME))?
            .as_u64()
            .ok_or_else(|| malformed(format!("'{NAME}' is no line's number")))
    }

    fn range(&self) -> Result<Option<(i64, i64)>, Unusable> {
        let Some(range) = self.given("view_range") else { return Ok(None) };
        let ends: Option<Vec<i64>> = range.as_array().and_then(|ends| ends.iter().map(Value::as_i64).collect());
        match ends.as_deref() {
            Some([first, last]) => Ok(Some((*first, *last))),
            _ => Err(malformed("'view_range' is no pair of line numbers".to_owned())),
        }
    }

    /// `null` means the same as nothing.
    fn given(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }
}

fn missing(name: &str) -> Unusable {
    malformed(format!("'{name}' is missing"))
}

fn malformed(problem: String) -> Unusable {
    Unusable::Malformed(problem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::damaged;

    fn read(name: &str, arguments: &Value) -> Result<Tool, Unusable> {
        Tool::read(name, arguments.as_object().unwrap())
    }

    fn edit(arguments: &Value) -> EditOperation {
        match read("str_replace_editor", arguments) {
            Ok(Tool::Edit(operation)) => operation,
            other => panic!("no edit: {other:?}"),
        }
    }

    #[test]
    fn every_command_of_the_editor_is_understood() {
        let path = || "/testbed/a.go".to_owned();
        assert_eq!(
            edit(&json!({"command": "view", "path": path()})),
            EditOperation::View { path: path(), range: None }
        );
        assert_eq!(
            edit(&json!({"command": "view", "path": path(), "view_range": [3, -1], "old_str": null})),
            EditOperation::View { path: path(), range: Some((3, -1)) }
        );
        assert_eq!(
            edit(&json!({"command": "create", "path": path(), "file_text": "x"})),
            EditOperation::Create { path: path(), text: "x".into() }
        );
        assert_eq!(
            edit(&json!({"command": "str_replace", "path": path(), "old_str": "\ta"})),
            EditOperation::StrReplace { path: path(), old: "\ta".into(), new: String::new() }
        );
        assert_eq!(
            edit(&json!({"command": "insert", "path": path(), "insert_line": 0, "new_str": "y"})),
            EditOperation::Insert { path: path(), line: 0, text: "y".into() }
        );
        assert_eq!(edit(&json!({"command": "undo_edit", "path": path()})), EditOperation::Undo { path: path() });
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_named() {
        for (arguments, named) in [
            (json!({"command": "view"}), "'path' is missing"),
            (json!({"path": "a"}), "'command' is missing"),
            (json!({"command": "delete", "path": "a"}), "no command 'delete'"),
            (json!({"command": "create", "path": "a"}), "'file_text' is missing"),
            (
                json!({"command": "insert", "path": "a", "new_str": "x", "insert_line": -1}),
                "'insert_line' is no line's number",
            ),
            (json!({"command": "view", "path": "a", "view_range": [1]}), "'view_range'"),
            (json!({"command": "view", "path": 7}), "'path' is no string"),
        ] {
            let error = read("str_replace_editor", &arguments).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
        assert_eq!(read("browser", &json!({})), Err(Unusable::UnknownTool("browser".into())));
    }

    #[test]
    fn every_tool_that_is_offered_can_be_called_and_its_parameters_are_declared() {
        let definitions = definitions(&AgentLimits::default());
        let names: Vec<&str> = definitions.iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["bash", "str_replace_editor", "submit"]);
        assert!(definitions[0]["function"]["description"].as_str().unwrap().contains("300 seconds"));
        assert_eq!(read("submit", &json!({"anything": 1})), Ok(Tool::Submit));
        assert_eq!(read("bash", &json!({"command": "ls"})), Ok(Tool::Bash { command: "ls".into() }));
    }

    proptest! {
        #[test]
        fn no_call_makes_the_reader_panic(
            name in prop_oneof![Just("bash".to_owned()), Just("str_replace_editor".to_owned()), ".*"],
            arguments in damaged(br#"{"command": "view", "path": "/testbed/a.go", "view_range": [3, -1], "insert_line": 7, "file_text": "x",
                "old_str": "a", "new_str": null}"#),
        ) {
            if let Ok(Value::Object(arguments)) = serde_json::from_slice(&arguments) {
                let _ = Tool::read(&name, &arguments);
            }
        }
    }
}
