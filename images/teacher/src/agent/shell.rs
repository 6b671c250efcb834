//! The commands that the teacher has executed: only what every POSIX shell and busybox have.

use crate::code::Language;

/// The word that ends lines put into a file; no code has it.
const END: &str = "END_OF_NEW_LINES";
/// The most lines that a search may show.
const MANY: usize = 200;

/// `text` as one word of a shell.
pub(super) fn quoted(text: &str) -> String {
    let plain =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@,:".contains(&byte));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Where the repository lies, and what is in it.
pub(super) fn enter(folder: Option<&str>) -> String {
    match folder {
        Some(folder) => format!("cd {} && pwd && ls", quoted(folder)),
        None => "pwd && ls".to_owned(),
    }
}

/// How many lines a file has, and those that have one of `words`.
pub(super) fn lines_with(path: &str, words: &[&str]) -> String {
    let path = quoted(path);
    let patterns = words.iter().map(|word| format!("-e {}", quoted(word))).collect::<Vec<_>>().join(" ");
    format!("grep -c '' {path}; grep -nF {patterns} {path} | head -n {MANY}")
}

/// The files in which `name` stands behind a word that defines functions.
pub(super) fn files_defining(root: &str, name: &str) -> String {
    let name: String =
        name.chars().flat_map(|c| if c.is_alphanumeric() || c == '_' { vec![c] } else { vec!['\\', c] }).collect();
    let pattern = format!("(def|fn|func|function|fun|func \\([^)]*\\))[[:space:]]+(self\\.)?{name}([^A-Za-z0-9_]|$)");
    files(root, &format!("-rlE -e {}", quoted(&pattern)))
}

/// The files in which `text` stands.
pub(super) fn files_with(root: &str, text: &str, as_word: bool) -> String {
    files(root, &format!("-rl{}F -e {}", if as_word { "w" } else { "" }, quoted(text)))
}

fn files(root: &str, search: &str) -> String {
    format!("cd {} && grep {search} . | grep -v '/\\.git/' | head -n {MANY}", quoted(root))
}

/// Lines of a file, with their numbers.
pub(super) fn view(path: &str, from: usize, to: usize) -> String {
    format!("cat -n {} | sed -n '{from},{to}p'", quoted(path))
}

/// Puts `lines` in the place of `count` lines of a file, the first of which is line `from`.
pub(super) fn put(path: &str, from: usize, count: usize, lines: &[String]) -> String {
    let path = quoted(path);
    let new: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    let (before, after) = (from - 1, from + count);
    format!(
        "new=\"${{TMPDIR:-/tmp}}/new.$$\"\n{{ head -n {before} {path}; cat <<'{END}'\n{new}{END}\ntail -n +{after} {path}; }} > \"$new\" && cat \"$new\" > {path} && rm -f \"$new\""
    )
}

/// Has the language's own parser look at a file, where the machine has it; nothing is written anywhere.
pub(super) fn parse(language: Language, path: &str) -> Option<String> {
    let path = quoted(path);
    let (program, command) = match language {
        Language::Python => (
            "python3",
            format!("python3 -c 'import ast, sys; ast.parse(open(sys.argv[1], encoding=\"utf-8\").read())' {path}"),
        ),
        Language::Go => ("gofmt", format!("gofmt -e {path} > /dev/null")),
        Language::Ruby => ("ruby", format!("ruby -c {path}")),
        Language::Php => ("php", format!("php -l {path}")),
        _ => return None,
    };
    Some(format!("command -v {program} > /dev/null && {command} && echo parsed"))
}

/// Whether a parser has refused what it was shown.
pub(super) fn is_refused(observation: &str) -> bool {
    let lower = observation.to_lowercase();
    ["syntaxerror", "syntax error", "parse error", "indentationerror"].iter().any(|word| lower.contains(word))
        || observation.contains(": expected ") && observation.contains(".go:")
}

/// The uncommitted changes of one file.
pub(super) fn diff(root: &str, path: &str) -> String {
    format!("cd {} && git --no-pager diff -- {}", quoted(root), quoted(path))
}

/// Where else a name is used.
pub(super) fn uses(root: &str, name: &str) -> String {
    format!("cd {} && grep -rnwF -e {} . | grep -v '/\\.git/' | cut -c 1-160 | head -n 15", quoted(root), quoted(name))
}

/// What lies beside a file.
pub(super) fn beside(path: &str) -> String {
    format!("ls -l {} | head -n 40", quoted(path.rsplit_once('/').map_or(".", |(folder, _)| folder)))
}

/// The last commits.
pub(super) fn history(root: &str) -> String {
    format!("cd {} && git --no-pager log --oneline -n 5", quoted(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_when_they_have_to_be() {
        assert_eq!(quoted("/a/b-c.py"), "/a/b-c.py");
        assert_eq!(quoted("it's $x"), "'it'\\''s $x'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn lines_are_put_where_they_belong_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b's.txt");
        std::fs::write(&path, "1\n\t2 $x `y` \\n\r\n3\n4").unwrap();
        let run = |from, count, lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            let command = put(path.to_str().unwrap(), from, count, &lines);
            assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success());
            std::fs::read_to_string(&path).unwrap()
        };
        assert_eq!(run(3, 1, &["a $b 'c' \"d\" \\e", ""]), "1\n\t2 $x `y` \\n\r\na $b 'c' \"d\" \\e\n\n4");
        assert_eq!(run(1, 0, &["0"]), "0\n1\n\t2 $x `y` \\n\r\na $b 'c' \"d\" \\e\n\n4");
        assert_eq!(run(2, 1, &[]), "0\n\t2 $x `y` \\n\r\na $b 'c' \"d\" \\e\n\n4");
    }
}
