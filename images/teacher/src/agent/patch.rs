//! The patch that a conversation shows: from a diff in it, or else from the texts that its edits replaced.

use serde_json::{Map, Value};

use super::conversation::Conversation;
use super::observation;
use super::toolbox::hits;
use crate::change::Hunk;

/// What a conversation shows of a patch.
#[derive(Debug, Default)]
pub(super) struct Patch {
    pub(super) hunks: Vec<Hunk>,
    /// Lines around the changed ones, and where hunks say that they are.
    pub(super) context: Vec<String>,
    /// The files that are changed, from the root.
    pub(super) files: Vec<String>,
}

impl Patch {
    /// The last diff that the conversation shows; without one, what its edits did.
    pub(super) fn shown_in(conversation: &Conversation) -> Self {
        let diffs = conversation.texts().filter_map(|text| {
            let text = observation::unwrapped(text);
            Self::from_diff(&text).or_else(|| Self::from_diff(&unescaped(&text)?))
        });
        if let Some(patch) = diffs.last() {
            return patch;
        }
        let mut patch = Self::default();
        let given = conversation.exchanges.iter().flat_map(|exchange| &exchange.arguments).cloned();
        let written = conversation.texts().flat_map(objects);
        for arguments in given.chain(written) {
            patch.add_edit(&arguments);
        }
        patch
    }

    /// The last diff in a text.
    fn from_diff(text: &str) -> Option<Self> {
        let mut patch = Self::default();
        let mut lines = text.split('\n');
        while let Some(line) = lines.next() {
            if line.starts_with("diff --git ") {
                // Another diff of the same file shows a later state.
                let file = line.rsplit(" b/").next().unwrap_or_default().to_owned();
                if patch.files.contains(&file) {
                    patch = Self::default();
                }
                patch.files.push(file);
            } else if let Some((old, new, place)) = hunk_header(line) {
                patch.context.push(place.to_owned());
                patch.read_hunk(&mut lines, old, new);
            }
        }
        (!patch.hunks.is_empty()).then_some(patch)
    }

    fn read_hunk<'a>(&mut self, lines: &mut impl Iterator<Item = &'a str>, mut old: usize, mut new: usize) {
        let mut hunk = Hunk::default();
        while old + new > 0 {
            let Some(line) = lines.next() else { break };
            match line.as_bytes().first() {
                Some(b'-') => {
                    if !hunk.added.is_empty() {
                        self.close(&mut hunk);
                    }
                    hunk.removed.push(line[1..].to_owned());
                    old = old.saturating_sub(1);
                }
                Some(b'+') => {
                    hunk.added.push(line[1..].to_owned());
                    new = new.saturating_sub(1);
                }
                Some(b'\\') => {}
                _ => {
                    self.close(&mut hunk);
                    self.context.push(line.get(1..).unwrap_or_default().to_owned());
                    old = old.saturating_sub(1);
                    new = new.saturating_sub(1);
                }
            }
        }
        self.close(&mut hunk);
    }

    fn close(&mut self, hunk: &mut Hunk) {
        let hunk = std::mem::take(hunk);
        if hunk != Hunk::default() {
            self.hunks.push(hunk);
        }
    }

    fn add_edit(&mut self, arguments: &Map<String, Value>) {
        let text = |words: &[&str]| {
            arguments
                .iter()
                .find(|(name, value)| value.is_string() && hits(name, words) > 0)
                .and_then(|(_, value)| value.as_str())
        };
        let (Some(old), Some(new)) =
            (text(&["old", "search", "find", "before", "original"]), text(&["new", "replacement", "replace", "after"]))
        else {
            return;
        };
        let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
        let before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let rest = (old.len() - before).min(new.len() - before);
        let after = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        self.context.extend(owned(&old[..before]));
        self.context.extend(owned(&old[old.len() - after..]));
        let hunk =
            Hunk { removed: owned(&old[before..old.len() - after]), added: owned(&new[before..new.len() - after]) };
        self.close(&mut hunk.clone());
    }
}

/// `@@ -1,2 +3,4 @@ place`: how many lines the old side and the new have, and the place.
fn hunk_header(line: &str) -> Option<(usize, usize, &str)> {
    let (ranges, place) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let count = |range: &str| range.split_once(',').map_or(Some(1), |(_, count)| count.parse().ok());
    Some((count(old)?, count(new)?, place.trim()))
}

/// The text with its escapes resolved, where it is a diff that was written out as JSON.
fn unescaped(text: &str) -> Option<String> {
    text.contains("\\n@@ -")
        .then(|| text.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// JSON objects that stand in a text, as transcripts of calls write them.
fn objects(text: &str) -> impl Iterator<Item = Map<String, Value>> {
    text.match_indices("{\"").filter_map(|(at, _)| {
        match serde_json::Deserializer::from_str(&text[at..]).into_iter().next() {
            Some(Ok(Value::Object(object))) => Some(object),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DIFF: &str = "diff --git a/src/a.py b/src/a.py\nindex 1..2 100644\n--- a/src/a.py\n+++ b/src/a.py\n@@ -3,4 +3,6 @@ class A:\n     def f(self, a):\n-        b\n+        c\n         d\n+        e\n+        g\n         h\n";

    fn conversation(messages: &Value) -> Conversation {
        Conversation::new(&serde_json::from_value(json!({"model": "rehearsal", "messages": messages})).unwrap())
    }

    fn expected() -> Vec<Hunk> {
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        vec![
            Hunk { removed: owned(&["        b"]), added: owned(&["        c"]) },
            Hunk { removed: Vec::new(), added: owned(&["        e", "        g"]) },
        ]
    }

    #[test]
    fn a_diff_is_read_wherever_it_stands() {
        for text in [
            DIFF.to_owned(),
            format!("Steps:\n1. …\n<diff>\n{DIFF}</diff>\nWrite it."),
            json!({"output": DIFF}).to_string(),
            format!("saw: {}", json!(DIFF)),
        ] {
            let patch = Patch::shown_in(&conversation(&json!([{"role": "user", "content": text}])));
            assert_eq!(patch.hunks, expected(), "{text}");
            assert!(patch.context.iter().any(|line| line.contains("def f")));
        }
    }

    #[test]
    fn without_a_diff_the_edits_tell() {
        let arguments = json!({"command": "str_replace", "path": "/a.py", "old_str": "a\nb\nc", "new_str": "a\nd\nc"});
        let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "e", "arguments": arguments.to_string()}}]});
        let called =
            conversation(&json!([{"role": "user", "content": "x"}, call, {"role": "tool", "content": "done"}]));
        let told =
            conversation(&json!([{"role": "user", "content": format!("ACTION: {arguments}\nOBSERVATION: done")}]));
        for conversation in [called, told] {
            assert_eq!(
                Patch::shown_in(&conversation).hunks,
                [Hunk { removed: vec!["b".into()], added: vec!["d".into()] }]
            );
        }
    }
}
