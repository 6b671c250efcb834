//! What came of a command or a view: out of whatever a client wraps it in, and taken apart into numbered lines.

use serde_json::Value;

/// The fields in which clients that answer in JSON put a command's output.
const FIELDS: [&str; 6] = ["output", "stdout", "content", "result", "text", "observation"];

/// An observation without the JSON that it may be wrapped in.
pub(super) fn unwrapped(observation: &str) -> String {
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(observation) else { return observation.to_owned() };
    let text = |field: &str| object.get(field).and_then(Value::as_str);
    if let Some(text) = FIELDS.iter().find_map(|field| text(field)) {
        return text.to_owned();
    }
    // A long output may come as its two ends.
    match (text("output_head"), text("output_tail")) {
        (Some(head), Some(tail)) => format!("{head}\n{tail}"),
        _ => observation.to_owned(),
    }
}

/// The lines of a file that a view shows, with the number of the first: those that follow each other from `from` on.
pub(super) fn viewed(observation: &str, from: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in unwrapped(observation).split('\n') {
        if let Some((number, text)) = numbered(line)
            && number == from + lines.len()
        {
            lines.push(text.to_owned());
        }
    }
    lines
}

/// The lines that a search in one file found, with their numbers.
pub(super) fn found(observation: &str) -> Vec<(usize, String)> {
    let unwrapped = unwrapped(observation);
    unwrapped.split('\n').filter_map(numbered).map(|(number, text)| (number, text.to_owned())).collect()
}

/// A line that begins with its number, as `cat -n`, `grep -n` and editors show it.
fn numbered(line: &str) -> Option<(usize, &str)> {
    let line = line.trim_start_matches(' ');
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let number = line[..digits].parse().ok()?;
    let rest = &line[digits..];
    let text =
        rest.strip_prefix(['\t', ':']).or_else(|| rest.strip_prefix(" | ")).or_else(|| rest.strip_prefix('|'))?;
    Some((number, text))
}

/// The paths that a search over files found, without what is never source.
pub(super) fn paths(observation: &str) -> Vec<String> {
    let path = |line: &str| {
        let line = line.trim().trim_start_matches("./");
        crate::code::Language::of(line).is_some().then(|| line.to_owned())
    };
    unwrapped(observation).split('\n').filter_map(path).collect()
}

/// The first number that stands alone on its line.
pub(super) fn count(observation: &str) -> Option<usize> {
    unwrapped(observation).split('\n').find_map(|line| line.trim().parse().ok())
}

/// The first line that is an absolute path.
pub(super) fn folder(observation: &str) -> Option<String> {
    unwrapped(observation)
        .split('\n')
        .map(str::trim)
        .find(|line| line.starts_with('/') && !line.contains(": "))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whatever_they_are_wrapped_in() {
        let shown = "     7\tdef f():\n     8\t\treturn 1\r\n     9\t";
        let expected = ["def f():", "\treturn 1\r", ""];
        let json = serde_json::json!({"returncode": 0, "output": shown}).to_string();
        let tagged = format!("<returncode>0</returncode>\n<output>\n{shown}\n</output>");
        let headed = format!("Here's the result of running `cat -n` on /a.py:\n{shown}\n");
        for observation in [shown, &json, &tagged, &headed] {
            assert_eq!(viewed(observation, 7), expected, "{observation}");
        }
        assert_eq!(viewed("7:def f():\n8:\treturn 1\r\n9:", 7), expected);
        assert!(viewed("No such file", 7).is_empty());
    }

    #[test]
    fn searches_counts_and_folders_are_read() {
        assert_eq!(found("12:a: b\nnothing\n40:c"), [(12, "a: b".to_owned()), (40, "c".to_owned())]);
        assert_eq!(paths("./a/b.py\nREADME\ngrep: x: Permission denied\nc.go"), ["a/b.py", "c.go"]);
        assert_eq!(count("{\"output\": \"42\\n7:x\"}"), Some(42));
        assert_eq!(folder("bash: x\n/testbed\na\n"), Some("/testbed".to_owned()));
    }
}
