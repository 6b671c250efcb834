//! What the teacher can do: which of the offered tools executes commands, which edits, which submits, and what their parameters are called. Told from
//! names, descriptions and enums of their schemas; a client without tools gets its commands between fences.

mod schema;

use serde_json::{Map, Value, json};

use super::conversation::Conversation;
use crate::protocol::Tool;
use schema::Offered;

pub(super) use schema::hits;

/// The tools, by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Toolbox {
    run: Option<Run>,
    edit: Option<Edit>,
    submit: Option<Submit>,
}

/// How commands are executed.
#[derive(Debug)]
enum Run {
    Tool {
        name: String,
        command: String,
        rest: Map<String, Value>,
    },
    /// As text, between fences with this label.
    Fenced(String),
}

/// The editor, and what its parameters are called.
#[derive(Debug)]
struct Edit {
    name: String,
    path: String,
    old: String,
    new: String,
    /// The parameter that says what to do, and what it says for replacing and for viewing.
    operation: Option<(String, String, Option<String>)>,
    range: Option<Range>,
}

/// How the editor is told which lines to show.
#[derive(Debug)]
enum Range {
    /// One parameter with the first and the last line.
    Pair(String),
    /// A parameter each.
    Ends(String, String),
}

/// How work is submitted.
#[derive(Debug)]
enum Submit {
    Tool {
        name: String,
        arguments: Map<String, Value>,
    },
    /// By executing a command.
    Command(String),
}

/// What the teacher can decide to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Run(String),
    /// Look at lines of a file, both included.
    View {
        path: String,
        from: usize,
        to: usize,
    },
    /// Replace lines of a file, which begin at `at`.
    Replace {
        path: String,
        old: String,
        new: String,
    },
    Submit,
}

/// A call, or a text, that has a client carry out an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spoken {
    Call {
        name: String,
        arguments: Map<String, Value>,
    },
    /// A command between fences.
    Fenced(String),
    /// There is no way to do it: this is the end.
    Nothing,
}

impl Toolbox {
    pub(crate) fn read(tools: &[Tool], conversation: &Conversation) -> Self {
        let parameters: Vec<Offered<'_>> = tools.iter().map(Offered::new).collect();
        let edit = parameters.iter().find_map(Offered::edit);
        let submit = parameters.iter().find_map(Offered::submit);
        let taken: Vec<&str> =
            edit.iter().map(|edit| edit.name.as_str()).chain(submit.iter().map(|(name, _)| name.as_str())).collect();
        let run = parameters
            .iter()
            .filter(|tool| !taken.contains(&tool.name))
            .filter_map(Offered::run)
            .max_by_key(|(likelihood, _)| *likelihood)
            .map(|(_, run)| run);
        let run = if tools.is_empty() { fence(conversation).map(Run::Fenced) } else { run };
        let by_command = || submit_command(conversation).filter(|_| run.is_some()).map(Submit::Command);
        let submit = submit.map(|(name, arguments)| Submit::Tool { name, arguments }).or_else(by_command);
        Self { run, edit, submit }
    }

    /// Whether commands can be executed: a conversation without is no rollout.
    pub(crate) fn can_act(&self) -> bool {
        self.run.is_some()
    }

    pub(crate) fn has_editor(&self) -> bool {
        self.edit.is_some()
    }

    /// Whether the editor shows lines of files.
    pub(crate) fn can_view(&self) -> bool {
        self.edit.as_ref().is_some_and(|edit| {
            edit.range.is_some() && edit.operation.as_ref().is_some_and(|(_, _, view)| view.is_some())
        })
    }

    /// The action as this client has to be told.
    pub(crate) fn speak(&self, action: &Action) -> Spoken {
        match (action, &self.edit) {
            (Action::Run(command), _) => self.run(command),
            (Action::View { path, from, to }, Some(edit)) => edit.view(path, *from, *to),
            (Action::Replace { path, old, new }, Some(edit)) => edit.replace(path, old, new),
            (Action::Submit, _) => match &self.submit {
                Some(Submit::Tool { name, arguments }) => {
                    Spoken::Call { name: name.clone(), arguments: arguments.clone() }
                }
                Some(Submit::Command(command)) => self.run(command),
                None => Spoken::Nothing,
            },
            _ => Spoken::Nothing,
        }
    }

    fn run(&self, command: &str) -> Spoken {
        match &self.run {
            Some(Run::Tool { name, command: parameter, rest }) => {
                let mut arguments = Map::new();
                arguments.insert(parameter.clone(), json!(command));
                arguments.extend(rest.clone());
                Spoken::Call { name: name.clone(), arguments }
            }
            Some(Run::Fenced(label)) => Spoken::Fenced(format!("```{label}\n{command}\n```")),
            None => Spoken::Nothing,
        }
    }
}

impl Edit {
    fn call(&self, operation: Option<&str>, rest: Vec<(&str, Value)>) -> Spoken {
        let mut arguments = Map::new();
        if let (Some((parameter, ..)), Some(value)) = (&self.operation, operation) {
            arguments.insert(parameter.clone(), json!(value));
        }
        arguments.extend(rest.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Spoken::Call { name: self.name.clone(), arguments }
    }

    fn view(&self, path: &str, from: usize, to: usize) -> Spoken {
        let Some((_, _, Some(view))) = &self.operation else { return Spoken::Nothing };
        let mut rest = vec![(self.path.as_str(), json!(path))];
        match &self.range {
            Some(Range::Pair(name)) => rest.push((name, json!([from, to]))),
            Some(Range::Ends(first, last)) => rest.extend([(first.as_str(), json!(from)), (last.as_str(), json!(to))]),
            None => {}
        }
        self.call(Some(view), rest)
    }

    fn replace(&self, path: &str, old: &str, new: &str) -> Spoken {
        let rest =
            vec![(self.path.as_str(), json!(path)), (self.old.as_str(), json!(old)), (self.new.as_str(), json!(new))];
        self.call(self.operation.as_ref().map(|(_, replace, _)| replace.as_str()), rest)
    }
}

/// The label of the fences that commands are to be written between, if the prompt shows any.
fn fence(conversation: &Conversation) -> Option<String> {
    let texts = [conversation.rules.as_str(), conversation.prompt.as_str()];
    let labels: Vec<&str> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.trim().strip_prefix("```"))
        .filter(|label| !label.is_empty())
        .collect();
    let shells: Vec<&str> = labels
        .into_iter()
        .filter(|label| hits(&label.replace('_', " "), &["bash", "sh", "shell", "command", "console"]) > 0)
        .collect();
    shells.first().map(|label| (*label).to_owned())
}

/// The command that submits, where the prompt says that one does: the one in quotes after a word for it.
fn submit_command(conversation: &Conversation) -> Option<String> {
    let texts = [conversation.prompt.as_str(), conversation.rules.as_str()];
    let spans =
        texts.iter().flat_map(|text| super::mentions::quoted(text).into_iter().map(|(at, span)| (&text[..at], span)));
    let finishing = |before: &str| {
        let before: String = before.chars().rev().take(160).collect::<String>().chars().rev().collect();
        hits(&before, &["submit", "finish", "finished", "done", "end", "complete", "final"]) > 0
    };
    spans
        .filter(|(before, span)| {
            (span.starts_with("echo ") || *span == "submit" || span.starts_with("exit")) && finishing(before)
        })
        .map(|(_, span)| span.to_owned())
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tools: &Value, prompt: &str) -> Toolbox {
        let request: crate::protocol::ChatRequest = serde_json::from_value(
            json!({"model": "rehearsal", "messages": [{"role": "user", "content": prompt}], "tools": tools}),
        )
        .unwrap();
        Toolbox::read(request.callable(), &Conversation::new(&request))
    }

    fn tool(name: &str, description: &str, properties: &Value, required: &[&str]) -> Value {
        json!({"type": "function", "function": {"name": name, "description": description,
            "parameters": {"type": "object", "properties": properties, "required": required}}})
    }

    fn call(spoken: &Spoken) -> (String, Value) {
        match spoken {
            Spoken::Call { name, arguments } => (name.clone(), Value::Object(arguments.clone())),
            other => panic!("{other:?}"),
        }
    }

    fn actions() -> [Action; 4] {
        [
            Action::Run("ls".into()),
            Action::View { path: "/a".into(), from: 3, to: 9 },
            Action::Replace { path: "/a".into(), old: "b".into(), new: "c".into() },
            Action::Submit,
        ]
    }

    #[test]
    fn the_papers_tools_are_understood() {
        let tools = json!([
            tool("bash", "Run a command in the shell", &json!({"command": {"type": "string"}}), &["command"]),
            tool(
                "str_replace_editor",
                "View, create and edit files",
                &json!({
                "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "undo_edit"]},
                "path": {"type": "string"}, "file_text": {"type": "string"}, "old_str": {"type": "string"}, "new_str": {"type": "string"},
                "insert_line": {"type": "integer"}, "view_range": {"type": "array", "items": {"type": "integer"}}}),
                &["command", "path"]
            ),
            tool("submit", "Submit your work", &json!({}), &[]),
        ]);
        let toolbox = read(&tools, "");
        let spoken = actions().map(|action| call(&toolbox.speak(&action)));
        assert_eq!(spoken[0], ("bash".into(), json!({"command": "ls"})));
        assert_eq!(
            spoken[1],
            ("str_replace_editor".into(), json!({"command": "view", "path": "/a", "view_range": [3, 9]}))
        );
        assert_eq!(
            spoken[2],
            (
                "str_replace_editor".into(),
                json!({"command": "str_replace", "path": "/a", "old_str": "b", "new_str": "c"})
            )
        );
        assert_eq!(spoken[3], ("submit".into(), json!({})));
    }

    #[test]
    fn renamed_tools_and_parameters_are_understood_from_their_descriptions() {
        let tools = json!([
            tool("finish_task", "Call this when you are done", &json!({"summary": {"type": "string"}}), &["summary"]),
            tool(
                "file_tool",
                "Works on files",
                &json!({
                "action": {"type": "string", "enum": ["show", "edit"]},
                "filename": {"type": "string"}, "search": {"type": "string", "description": "the text to look for"},
                "replacement": {"type": "string"}, "first_line": {"type": "integer"}, "last_line": {"type": "integer"}}),
                &["action", "filename"]
            ),
            tool(
                "terminal",
                "Executes what it is given",
                &json!({"input": {"type": "string", "description": "the command"}, "timeout": {"type": "integer"}}),
                &["input", "timeout"]
            ),
        ]);
        let toolbox = read(&tools, "");
        let spoken = actions().map(|action| call(&toolbox.speak(&action)));
        assert_eq!(spoken[0], ("terminal".into(), json!({"input": "ls", "timeout": 60})));
        assert_eq!(
            spoken[1],
            ("file_tool".into(), json!({"action": "show", "filename": "/a", "first_line": 3, "last_line": 9}))
        );
        assert_eq!(
            spoken[2],
            ("file_tool".into(), json!({"action": "edit", "filename": "/a", "search": "b", "replacement": "c"}))
        );
        assert_eq!(spoken[3].0, "finish_task");
    }

    #[test]
    fn a_client_with_nothing_but_commands_is_served_too() {
        let prompt = "Do it. When you are finished, submit by issuing the command: `echo COMPLETE_TASK`.";
        let toolbox = read(
            &json!([tool("bash", "Execute a bash command", &json!({"command": {"type": "string"}}), &["command"])]),
            prompt,
        );
        assert!(!toolbox.has_editor() && !toolbox.can_view());
        assert_eq!(call(&toolbox.speak(&Action::Submit)), ("bash".into(), json!({"command": "echo COMPLETE_TASK"})));
        let fenced = read(&json!(null), &format!("{prompt}\n```mswea_bash_command\nls\n```"));
        assert_eq!(fenced.speak(&Action::Run("ls".into())), Spoken::Fenced("```mswea_bash_command\nls\n```".into()));
        assert!(!read(&json!(null), "Write an issue.").can_act());
    }
}
