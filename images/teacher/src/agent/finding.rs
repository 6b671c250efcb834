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

/// Where a file may define a name.
#[derive(Debug)]
struct Place {
    path: String,
    language: Language,
    /// How many lines the file has.
    total: usize,
    /// The lines that look like the definition, the likeliest first.
    lines: Vec<usize>,
    /// Whether the likeliest lies within what qualifies the name, if anything does.
    is_within: bool,
}

/// Looks for `name` in the file at `path`.
pub(super) fn in_file(session: &mut Session<'_>, path: &str, name: &str) -> Step<Option<Found>> {
    match place(session, path, name)? {
        Some(place) => at_place(session, &place, name),
        None => Ok(None),
    }
}

/// Where the file at `path` defines `name`; none if it does not look as if it did.
fn place(session: &mut Session<'_>, path: &str, name: &str) -> Step<Option<Place>> {
    let Some(language) = Language::of(path) else { return Ok(None) };
    let (last, around) = (last_part(name), qualifier(name));
    let words: Vec<&str> = [last].into_iter().chain(around).collect();
    let seen = session.run(shell::lines_with(path, &words), Phase::Find { name, path })?;
    let Some(total) = observation::count(&seen) else { return Ok(None) };
    let (lines, is_within) = definitions(language, &observation::found(&seen), last, around);
    let is_within = is_within || around.is_some_and(|around| is_module(path, around));
    let place = Place { path: path.to_owned(), language, total, lines, is_within };
    Ok((!place.lines.is_empty()).then_some(place))
}

/// Reads the function that is defined at a place.
fn at_place(session: &mut Session<'_>, place: &Place, name: &str) -> Step<Option<Found>> {
    let name = last_part(name);
    for &first in place.lines.iter().take(DEFINITIONS) {
        if let Some(lines) = read(session, place.language, &place.path, name, (first, place.total))? {
            let function = Function::new(place.language, name, lines);
            return Ok(Some(Found { path: place.path.clone(), first, function }));
        }
    }
    Ok(None)
}

/// Whether the file at `path` is the module `name`, as languages call modules by their files.
fn is_module(path: &str, name: &str) -> bool {
    let mut parts = path.rsplit('/');
    let stem = parts.next().and_then(|file| file.rsplit_once('.')).map_or("", |(stem, _)| stem);
    let is_folder_itself = matches!(stem, "__init__" | "mod" | "lib" | "index");
    stem == name || is_folder_itself && parts.next() == Some(name)
}

/// The numbers of the lines that define `name`, the likeliest first: those within what the name is qualified by before the others. Whether the
/// first of them is such a one, or nothing qualifies the name.
fn definitions(language: Language, lines: &[(usize, String)], name: &str, around: Option<&str>) -> (Vec<usize>, bool) {
    let mut is_within = around.is_none();
    let mut found = Vec::new();
    for (number, line) in lines {
        // A type, or the function that another one lies in.
        is_within |= around.is_some_and(|around| is_type_in(line, around) || is_defined_in(language, line, around) > 1);
        let certainty = is_defined_in(language, line, name);
        if certainty > 0 {
            found.push((!is_within, std::cmp::Reverse(certainty), *number));
        }
    }
    found.sort_unstable();
    let first_is_within = found.first().is_some_and(|(is_outside, _, _)| !is_outside);
    (found.into_iter().map(|(_, _, number)| number).collect(), first_is_within)
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
        if let Some(found) = by_name(session, root, name)? {
            return Ok(Some(found));
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

/// Looks for a name; for one that only shares its last part with what was mentioned if nothing else is there.
fn by_name(session: &mut Session<'_>, root: &str, name: &str) -> Step<Option<Found>> {
    let last = last_part(name);
    let mut others: Vec<Place> = Vec::new();
    for command in [shell::files_defining(root, last), shell::files_with(root, last, true)] {
        let seen = session.run(command, Phase::Search { what: name })?;
        for path in ranked(observation::paths(&seen), &session.conversation.prompt).into_iter().take(TRIES) {
            let path = format!("{root}/{path}");
            if others.iter().any(|other| other.path == path) {
                continue;
            }
            let Some(place) = place(session, &path, name)? else { continue };
            if !place.is_within {
                others.push(place);
            } else if let Some(found) = at_place(session, &place, name)? {
                return Ok(Some(found));
            }
        }
    }
    for place in &others {
        if let Some(found) = at_place(session, place, name)? {
            return Ok(Some(found));
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
    if lines.is_empty() {
        // The command was ended, by a limit of the sandbox for example.
        return Ok(None);
    }
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
        .filter(|(certainty, word)| *certainty > 1 && !is_keyword(language, word))
        .min_by_key(|(certainty, _)| std::cmp::Reverse(*certainty))
        .map(|(_, word)| word.to_owned())
}

/// Words that stand before brackets and a body as a function's name does, where languages do not introduce functions by a word.
fn is_keyword(language: Language, word: &str) -> bool {
    matches!(word, "if" | "for" | "while" | "switch" | "catch")
        || match language {
            Language::JavaScript | Language::TypeScript => word == "function",
            Language::CSharp => matches!(word, "foreach" | "using" | "lock"),
            Language::Java => word == "synchronized",
            Language::C | Language::Cpp => word == "sizeof",
            _ => false,
        }
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
        assert_eq!(definitions(Language::Python, &lines, "close", Some("Session")), (vec![30, 5], true));
        assert_eq!(definitions(Language::Python, &lines, "close", None), (vec![5, 30], true));
        assert_eq!(definitions(Language::Python, &lines, "close", Some("Other")), (vec![5, 30], false));
    }

    #[test]
    fn a_name_may_be_qualified_by_its_module() {
        assert!(is_module("/a/net/session.py", "session") && is_module("/a/net/__init__.py", "net"));
        assert!(!is_module("/a/net/session.py", "net") && !is_module("/a/net/session.py", "Session"));
    }

    #[test]
    fn a_function_inside_another_is_found_by_both_names() {
        let lines: Vec<(usize, String)> =
            [(3, "function match(a) {"), (9, "function walk(a) {"), (12, "  function match(b) {")]
                .map(|(number, line)| (number, line.to_owned()))
                .to_vec();
        assert_eq!(definitions(Language::JavaScript, &lines, "match", Some("walk")), (vec![12, 3], true));
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
        assert_eq!(
            defined(Language::CSharp, "    public Dictionary<string, List<int>> Close(string text, int limit = 3)")
                .as_deref(),
            Some("Close")
        );
        assert_eq!(defined(Language::CSharp, "    public static T Close<T>(T value)").as_deref(), Some("Close"));
        assert_eq!(
            defined(Language::Kotlin, "    fun <T> List<T>.close(force: Boolean) = force").as_deref(),
            Some("close")
        );
        assert_eq!(defined(Language::JavaScript, "  match(path, depth = 32) {").as_deref(), Some("match"));
        assert_eq!(defined(Language::JavaScript, "  switch (path) {"), None);
        assert_eq!(defined(Language::C, "    if (close(fd)) {"), None);
    }
}
