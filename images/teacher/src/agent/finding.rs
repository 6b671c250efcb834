//! How the teacher finds a function: in a file that it is told, or somewhere in the repository from what an issue mentions.

use super::mentions::{last_part, qualifier};
use super::observation;
use super::session::{Session, Step};
use super::shell;
use super::thoughts::Phase;
use crate::code::{Extent, Function, Language, extent, extent_at, is_defined_in, is_type_in};

/// How many lines are looked at at once; of code they fit into what clients show of one command's output.
const WINDOW: usize = 120;
/// How far a function is followed; a longer one is taken to end there.
const LONGEST: usize = 480;
/// How many definitions of one name in a file are tried.
const DEFINITIONS: usize = 3;
/// How many files, and how many names, are tried.
const TRIES: usize = 4;

/// A function that was found and read.
#[derive(Debug)]
pub(super) struct Found {
    /// The file, absolute.
    pub(super) path: String,
    /// The number of the function's first line.
    pub(super) first: usize,
    pub(super) function: Function,
}

/// Looks for `name` in the file at `path`.
pub(super) fn in_file(session: &mut Session<'_>, path: &str, name: &str) -> Step<Option<Found>> {
    let Some(language) = Language::of(path) else { return Ok(None) };
    let (last, around) = (last_part(name), qualifier(name));
    let words: Vec<&str> = [last].into_iter().chain(around).collect();
    let seen = session.run(shell::lines_with(path, &words), Phase::Find { name, path })?;
    let Some(total) = observation::count(&seen) else { return Ok(None) };
    for at in definitions(language, &observation::found(&seen), last, around).into_iter().take(DEFINITIONS) {
        if let Some(lines) = read(session, language, path, last, (at, total))? {
            return Ok(Some(Found {
                path: path.to_owned(),
                first: at,
                function: Function::new(language, last, lines),
            }));
        }
    }
    Ok(None)
}

/// The numbers of the lines that define `name`, the likeliest first: those within the type that the name is qualified by before the others.
fn definitions(language: Language, lines: &[(usize, String)], name: &str, around: Option<&str>) -> Vec<usize> {
    let mut within = usize::MAX;
    let mut found = Vec::new();
    for (number, line) in lines {
        if around.is_some_and(|around| is_type_in(line, around)) {
            within = *number;
        }
        let certainty = is_defined_in(language, line, name);
        if certainty > 0 {
            let distance = if within == usize::MAX { usize::MAX } else { number - within };
            found.push((distance == usize::MAX, std::cmp::Reverse(certainty), *number));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, _, number)| number).collect()
}

/// Reads the function that begins at a line, window by window; none if there is no body.
fn read(
    session: &mut Session<'_>,
    language: Language,
    path: &str,
    name: &str,
    (first, total): (usize, usize),
) -> Step<Option<Vec<String>>> {
    let mut lines: Vec<String> = Vec::new();
    loop {
        let from = first + lines.len();
        let to = (from + WINDOW - 1).min(total);
        let shown = session.view(path, from, to, Phase::View { name, path })?;
        let stuck = shown.is_empty();
        lines.extend(shown);
        match extent(language, name, &lines) {
            Extent::Lines(count) => {
                lines.truncate(count);
                return Ok(Some(lines));
            }
            Extent::None => return Ok(None),
            // The file's last function is open to its end.
            Extent::Open if to >= total || lines.len() >= LONGEST || stuck => {
                return Ok((!lines.is_empty()).then_some(lines));
            }
            Extent::Open => {}
        }
    }
}

/// Looks for what an issue is about, by the names and the messages that it mentions.
pub(super) fn by_mention(
    session: &mut Session<'_>,
    root: &str,
    names: &[String],
    messages: &[String],
) -> Step<Option<Found>> {
    for name in names.iter().take(TRIES) {
        let last = last_part(name);
        for command in [shell::files_defining(root, last), shell::files_with(root, last, true)] {
            let seen = session.run(command, Phase::Search { what: name })?;
            for path in ranked(observation::paths(&seen), &session.conversation.prompt).into_iter().take(TRIES) {
                if let Some(found) = in_file(session, &format!("{root}/{path}"), name)? {
                    return Ok(Some(found));
                }
            }
        }
    }
    for message in messages.iter().take(TRIES) {
        let seen = session.run(shell::files_with(root, message, false), Phase::Search { what: message })?;
        for path in ranked(observation::paths(&seen), &session.conversation.prompt).into_iter().take(TRIES) {
            if let Some(found) = around(session, &format!("{root}/{path}"), message)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// Files in the order in which they are looked at: first those that the text speaks of, tests last.
fn ranked(mut paths: Vec<String>, text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let words: Vec<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    paths.sort_by_cached_key(|path| {
        let lower = path.to_lowercase();
        let stem = lower.rsplit_once('.').map_or(lower.as_str(), |(stem, _)| stem);
        let parts: Vec<&str> = stem.split('/').collect();
        let mentioned = parts.iter().filter(|part| part.len() > 2 && words.contains(part)).count();
        let is_test = parts.iter().any(|part| {
            part.split(['_', '-', '.']).any(|word| matches!(word, "test" | "tests" | "spec" | "specs" | "testing"))
        });
        (is_test, std::cmp::Reverse(mentioned), path.len(), path.clone())
    });
    paths
}

/// The function around the line that has `message`.
fn around(session: &mut Session<'_>, path: &str, message: &str) -> Step<Option<Found>> {
    let Some(language) = Language::of(path) else { return Ok(None) };
    let seen = session.run(shell::lines_with(path, &[message]), Phase::Find { name: message, path })?;
    let (Some(total), Some((line, _))) = (observation::count(&seen), observation::found(&seen).into_iter().next())
    else {
        return Ok(None);
    };
    let from = line.saturating_sub(WINDOW).max(1);
    let lines = session.view(path, from, (line + 10).min(total), Phase::View { name: message, path })?;
    for at in (0..=(line - from).min(lines.len().saturating_sub(1))).rev() {
        let Some(name) = defined(language, &lines[at]) else { continue };
        let reaches = match extent_at(language, &name, &lines, at) {
            Extent::Lines(count) => at + count > line - from,
            Extent::Open => true,
            Extent::None => false,
        };
        if reaches && let Some(lines) = read(session, language, path, &name, (from + at, total))? {
            return Ok(Some(Found {
                path: path.to_owned(),
                first: from + at,
                function: Function::new(language, &name, lines),
            }));
        }
    }
    Ok(None)
}

/// The name of the function that a line defines, if it defines one.
pub(crate) fn defined(language: Language, line: &str) -> Option<String> {
    let words = line
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '~' | '$')))
        .filter(|word| !word.is_empty() && !word.starts_with(|c: char| c.is_ascii_digit()));
    let rated = words.map(|word| (is_defined_in(language, line, word), word));
    rated
        .filter(|(certainty, word)| *certainty > 1 && !is_keyword(word))
        .min_by_key(|(certainty, _)| std::cmp::Reverse(*certainty))
        .map(|(_, word)| word.to_owned())
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "for"
            | "while"
            | "switch"
            | "catch"
            | "match"
            | "when"
            | "function"
            | "func"
            | "fn"
            | "def"
            | "fun"
            | "foreach"
            | "using"
            | "lock"
            | "sizeof"
            | "elseif"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_within_the_named_type_comes_first() {
        let lines: Vec<(usize, String)> = [
            (3, "class Pool:"),
            (5, "    def close(self):"),
            (20, "class Session:"),
            (22, "        self.close()"),
            (30, "    def close(self):"),
        ]
        .map(|(number, line)| (number, line.to_owned()))
        .to_vec();
        assert_eq!(definitions(Language::Python, &lines, "close", Some("Session")), [30, 5]);
        assert_eq!(definitions(Language::Python, &lines, "close", None), [5, 30]);
    }

    #[test]
    fn files_that_the_text_speaks_of_come_first_and_tests_last() {
        let paths = ["tests/test_session.py", "net/pool.py", "net/session.py"].map(str::to_owned).to_vec();
        assert_eq!(ranked(paths, "It shows in the session part of net.")[0], "net/session.py");
    }

    #[test]
    fn the_name_of_a_definition_is_read() {
        assert_eq!(defined(Language::Python, "    def close(self, force):").as_deref(), Some("close"));
        assert_eq!(defined(Language::Java, "    public static int close(final int force) {").as_deref(), Some("close"));
        assert_eq!(
            defined(Language::Kotlin, "    fun close(force: Boolean = false): Boolean {").as_deref(),
            Some("close")
        );
        assert_eq!(defined(Language::C, "    if (close(fd)) {"), None);
    }
}
