//! What a text in prose mentions: files, names, messages between quotes, folders. Prompts may be worded in any way; names and paths stand out by their
//! spelling and by the quotes around them.

use crate::code::Language;

/// A name that a text mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    /// As it is written, with what qualifies it: `Session.close`.
    pub(crate) name: String,
    /// How much it looks like a function's name: 1 by the word before it, 2 by its spelling, more by quotes around it.
    weight: usize,
    /// Where in the text it stands.
    at: usize,
}

/// The function that a text is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The file, absolute or from the repository's root.
    pub(crate) path: String,
    pub(crate) name: String,
}

/// Words before a name that say that it is one.
const INTRODUCTIONS: [&str; 12] = [
    "function",
    "method",
    "routine",
    "procedure",
    "called",
    "named",
    "constructor",
    "func",
    "symbol",
    "closure",
    "property",
    "definition",
];

/// Names that prompts put between quotes because tools and programs are called so; a function of such a name is meant only where no other is.
const TOOLS: [&str; 12] = [
    "bash",
    "git",
    "python",
    "python3",
    "submit",
    "str_replace_editor",
    "view",
    "create",
    "str_replace",
    "insert",
    "undo_edit",
    "echo",
];

/// What quotes weigh: more than everything else together.
const QUOTED: usize = 6;
/// A file and a name in it further apart than this do not belong together.
const REACH: usize = 400;

/// The function in a file that the text points to, if it names both.
pub(crate) fn target(text: &str) -> Option<Target> {
    let text = without_fences(text);
    let paths = paths(&text);
    let names = names(&text);
    let pairs = paths.iter().flat_map(|path| names.iter().map(move |name| (path, name)));
    let best = pairs.filter(|((at, _), name)| at.abs_diff(name.at) <= REACH).max_by_key(|((at, path), name)| {
        (name.weight * REACH + usize::from(path.contains('/')) * REACH).saturating_sub(at.abs_diff(name.at))
    })?;
    Some(Target { path: best.0.1.clone(), name: best.1.name.clone() })
}

/// Paths of source files, with where they stand.
fn paths(text: &str) -> Vec<(usize, String)> {
    let spans = quoted(text).into_iter().map(|(at, span)| (at, span.to_owned()));
    let bare = tokens(text).map(|(at, token)| (at, token.to_owned()));
    let mut found: Vec<(usize, String)> = spans
        .chain(bare)
        .filter(|(_, path)| {
            Language::of(path).is_some()
                && !path.contains("://")
                && !path.contains(['\n', '*', '('])
                && path.len() < 300
        })
        .map(|(at, path)| (at, path.trim_start_matches("./").to_owned()))
        .collect();
    found.sort();
    found.dedup_by(|a, b| a.1 == b.1 && a.0.abs_diff(b.0) < 3);
    found
}

/// Names that stand out, the likeliest first.
pub(crate) fn likely_names(text: &str) -> Vec<String> {
    let mut names = names(&without_fences(text));
    names.sort_by_key(|mention| (std::cmp::Reverse(mention.weight), mention.at));
    let mut seen = Vec::new();
    for mention in names {
        if !seen.contains(&mention.name) {
            seen.push(mention.name);
        }
    }
    seen
}

fn names(text: &str) -> Vec<Mention> {
    let quoted = quoted(text);
    let mut found: Vec<Mention> = Vec::new();
    for (at, span) in &quoted {
        if let Some(name) = name(span) {
            let weight = if TOOLS.contains(&name.as_str()) { 1 } else { QUOTED + introduced(text, *at) };
            found.push(Mention { name, weight, at: *at });
        }
    }
    for (at, token) in tokens(text) {
        let inside = quoted.iter().any(|(from, span)| (*from..from + span.len()).contains(&at));
        if inside || Language::of(token).is_some() {
            continue;
        }
        let weight =
            2 * usize::from(token.ends_with("()")) + introduced(text, at) + 2 * usize::from(is_spelt_as_a_name(token));
        if let Some(name) = name(token).filter(|_| weight > 0) {
            found.push(Mention { name, weight, at });
        }
    }
    found
}

/// The name that a span is, if it is one.
fn name(span: &str) -> Option<String> {
    let span = span.trim().trim_end_matches("()");
    let span = span.split_once('(').map_or(span, |(name, _)| name);
    let last = last_part(span);
    let starts = last.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '~' | '$'));
    let allowed = |c: char| {
        c.is_alphanumeric()
            || matches!(
                c,
                '_' | '.' | ':' | '#' | '~' | '<' | '>' | '?' | '!' | '=' | '$' | '-' | '&' | '\'' | '*' | ',' | ' '
            )
    };
    let short = (2..120).contains(&span.len()) && span.chars().all(allowed) && !last.contains(' ');
    // What has blanks may be `<A as B>.c`, and is prose otherwise.
    let prose = span.contains(' ') && !span.starts_with('<') || span.contains('-') && !span.contains("->");
    let fits = starts && short && !prose && Language::of(span).is_none();
    fits.then(|| span.to_owned())
}

/// The name without what qualifies it.
pub(crate) fn last_part(name: &str) -> &str {
    let name = name.rsplit("::").next().unwrap_or(name);
    let name = name.rsplit("->").next().unwrap_or(name);
    let part = name.rsplit(['.', '#', ' ']).next().unwrap_or(name);
    part.split(['<', '(']).next().filter(|part| !part.is_empty()).unwrap_or(part)
}

/// What qualifies a name: the type or the function around it.
pub(crate) fn qualifier(name: &str) -> Option<&str> {
    let rest = name[..name.rfind(last_part(name))?].trim_end_matches(['.', ':', '#', '-', '>', ' ']);
    let last = rest.rsplit(['.', ':', '#', ' ', '<']).find(|part| !part.is_empty())?;
    last.starts_with(|c: char| c.is_alphabetic() || c == '_').then_some(last)
}

/// 1 if the word just before says that a name follows. "The function does" is prose, so it is the least of all signs.
fn introduced(text: &str, at: usize) -> usize {
    let before = text[..at].trim_end_matches(['`', '"', '\'', ' ', '*', ':']);
    let word = before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_lowercase();
    usize::from(INTRODUCTIONS.contains(&word.as_str()))
}

/// Whether a word could not be one of prose: `a_b`, `a.b`, `aB`.
fn is_spelt_as_a_name(token: &str) -> bool {
    let inner = token.trim_matches(|c: char| !c.is_alphanumeric());
    let hump = inner.chars().zip(inner.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase());
    let dotted = inner.split('.').count() > 1
        && inner.split('.').all(|part| part.len() > 1 && part.chars().all(|c| c.is_alphanumeric() || c == '_'));
    inner.len() > 2
        && (hump || inner.contains('_') || inner.contains("::") || dotted)
        && inner.chars().any(char::is_lowercase)
}

/// Texts between quotes or backticks on one line, with where they begin.
pub(crate) fn quoted(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split('\n') {
        let mut at = 0;
        while let Some(open) = line[at..].find(['`', '"', '\'', '\u{201c}']).map(|open| at + open) {
            let quote = line[open..].chars().next().unwrap_or('`');
            let inside = open + quote.len_utf8();
            let close = if quote == '\u{201c}' { '\u{201d}' } else { quote };
            // An apostrophe within a word opens nothing.
            let apostrophe = quote == '\'' && line[..open].ends_with(char::is_alphanumeric);
            match line[inside..].find(close).filter(|_| !apostrophe) {
                Some(length) => {
                    found.push((start + inside, &line[inside..inside + length]));
                    at = inside + length + close.len_utf8();
                }
                None => at = inside,
            }
        }
        start += line.len() + 1;
    }
    found.retain(|(_, span)| !span.is_empty());
    found
}

/// Words with what surrounds them taken away, with where they begin.
fn tokens(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let base = text.as_ptr() as usize;
    text.split([' ', '\n', '\t', ',', ';', '|']).filter_map(move |word| {
        let word = word.trim_start_matches(['(', '[', '{', '`', '"', '\'', '*', '<', '\u{201c}']);
        let word = word.trim_end_matches(['.', ':', '?', '!', ']', '}', '`', '"', '\'', '*', '>', '\u{201d}']);
        let word = if word.contains('(') { word } else { word.trim_end_matches(')') };
        (!word.is_empty()).then(|| (word.as_ptr() as usize - base, word))
    })
}

/// Absolute paths that may be folders, in the order in which the text names them; those that look like files come last.
pub(crate) fn folders(text: &str) -> Vec<String> {
    let spans = quoted(text).into_iter().map(|(_, span)| span);
    let mut found: Vec<String> = Vec::new();
    for path in spans.chain(tokens(text).map(|(_, token)| token)) {
        let path = path.trim_end_matches('/');
        let plain = path.starts_with('/') && path.len() > 1 && !path.starts_with("//");
        let allowed = path.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '_' | '-' | '.'));
        let system =
            ["/tmp", "/dev", "/usr", "/bin", "/etc", "/proc", "/var/tmp"].contains(&path) || path.starts_with("/dev/");
        if plain && allowed && !system && Language::of(path).is_none() && !found.iter().any(|known| known == path) {
            found.push(path.to_owned());
        }
    }
    let has_extension =
        |path: &String| path.rsplit('/').next().is_some_and(|name| name.trim_start_matches('.').contains('.'));
    found.sort_by_key(has_extension);
    found
}

/// The text without the blocks between fences: they show examples, and name what does not exist.
pub(crate) fn without_fences(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        // A template may have swallowed the line's end before a fence.
        if line.matches("```").count() % 2 == 1 {
            inside = !inside;
            continue;
        }
        if !inside {
            kept.push_str(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_and_function_are_found_however_the_prompt_is_worded() {
        let expected = Target { path: "src/net/session.py".to_owned(), name: "Session.close".to_owned() };
        for prompt in [
            "Something leaks. It seems related to the function `Session.close` in `src/net/session.py`, or to what it calls.",
            "In src/net/session.py there is Session.close(); please look into resource handling there.",
            "<repository>/testbed</repository>\nFile: src/net/session.py\nFunction: Session.close\nKind of problem: a resource is held too long.",
            "The function does not do what it should. It was noticed around `Session.close` in src/net/session.py.",
            "The repository is at /testbed. You may use 'git' and \"bash\". Users report trouble around \"Session.close\" (file \"src/net/session.py\").",
        ] {
            assert_eq!(target(prompt), Some(expected.clone()), "{prompt}");
        }
    }

    #[test]
    fn an_issue_without_a_file_points_nowhere() {
        assert_eq!(
            target(
                "`Session.close` leaves sockets behind when there is nothing to send. See the docs at https://x.y/z.py"
            ),
            None
        );
        assert_eq!(target("Fix it. With sed:```bash\nsed -i s/old_string/new_string/ filename.py\n```\nThanks"), None);
    }

    #[test]
    fn names_are_taken_apart() {
        for (name, last, around) in [
            ("Session.close", "close", Some("Session")),
            ("a::b::Session::close", "close", Some("Session")),
            ("close", "close", None),
            ("Session#close", "close", Some("Session")),
            ("<Session as Closer>.close", "close", Some("Closer>")),
            ("Session.close<T>", "close", Some("Session")),
        ] {
            assert_eq!(last_part(name), last, "{name}");
            if !name.starts_with('<') {
                assert_eq!(qualifier(name), around, "{name}");
            }
        }
    }

    #[test]
    fn folders_are_told_from_files_and_from_the_systems() {
        assert_eq!(
            folders(
                "The code (README: /testbed/README.md) is in `/testbed` (see /testbed/a.py); use /tmp, not /dev/null. It's in /work/x."
            ),
            ["/testbed", "/work/x", "/testbed/README.md"]
        );
    }

    #[test]
    fn names_in_quotes_come_before_others_and_prose_is_none() {
        let names = likely_names(
            "It's odd: `close` fails with \"cannot send after close\", as does sendAll. Don't mind the rest.",
        );
        assert_eq!(names, ["close", "sendAll"]);
    }
}
