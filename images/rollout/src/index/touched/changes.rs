//! The lines that a patch changes, by where they are before it. Patches are read as git writes them.

/// How many lines apart two changes may be that are at one place.
const NEAR: u32 = 3;

/// One changed line, by where it is before the change.
pub(super) struct Change {
    pub(super) file: String,
    pub(super) place: Place,
}

pub(super) enum Place {
    /// A line that is taken away.
    At(u32),
    /// A line that is put before this one; `indented`: whether it begins with a space.
    Before { line: u32, indented: bool },
    /// The file as a whole: it is renamed, or which of its lines change is not told.
    Whole,
}

impl Place {
    pub(super) fn is_near(&self, other: &Self) -> bool {
        match (self.line(), other.line()) {
            (Some(line), Some(other)) => line.abs_diff(other) <= NEAR,
            // A file that is changed as a whole is changed everywhere.
            _ => true,
        }
    }

    /// The line that it is at, before the change.
    const fn line(&self) -> Option<u32> {
        match self {
            Self::At(line) | Self::Before { line, .. } => Some(*line),
            Self::Whole => None,
        }
    }

    pub(super) fn is_in(&self, (first, last): (u32, u32)) -> bool {
        match *self {
            Self::At(line) => (first..=last).contains(&line),
            // Right after its last line a function may go on, where indentation alone ends it.
            Self::Before { line, indented } => (first < line && line <= last) || (indented && line == last + 1),
            Self::Whole => true,
        }
    }
}

/// The changes of a patch.
pub(super) fn changes(patch: &str) -> impl Iterator<Item = Change> {
    let mut reading = Reading::default();
    patch.split('\n').filter_map(move |line| reading.take(line.strip_suffix('\r').unwrap_or(line)))
}

/// Where a patch is read.
#[derive(Default)]
struct Reading {
    file: Option<String>,
    /// The next line before the change, and how many lines of the hunk are to come, before it and after it.
    line: u32,
    before: u32,
    after: u32,
}

impl Reading {
    fn take(&mut self, text: &str) -> Option<Change> {
        if self.before == 0 && self.after == 0 {
            return self.header(text);
        }
        let place = match text.as_bytes().first() {
            Some(b'-') => {
                let line = self.line;
                self.before = self.before.saturating_sub(1);
                self.line = line.saturating_add(1);
                Place::At(line)
            }
            Some(b'+') => {
                self.after = self.after.saturating_sub(1);
                Place::Before {
                    line: self.line,
                    indented: text[1..].starts_with([' ', '\t']) && !text[1..].trim().is_empty(),
                }
            }
            Some(b'\\') => return None,
            _ => {
                self.before = self.before.saturating_sub(1);
                self.after = self.after.saturating_sub(1);
                self.line = self.line.saturating_add(1);
                return None;
            }
        };
        Some(Change { file: self.file.clone()?, place })
    }

    fn header(&mut self, text: &str) -> Option<Change> {
        if let Some(path) = text.strip_prefix("--- ") {
            self.file = unquoted(path.split('\t').next().unwrap_or(path)).strip_prefix("a/").map(str::to_owned);
        } else if let Some(path) = text.strip_prefix("rename from ") {
            return Some(Change { file: unquoted(path), place: Place::Whole });
        } else if let Some(file) = text.strip_prefix("Binary files ").and_then(binary) {
            return Some(Change { file, place: Place::Whole });
        } else if let Some((line, before, after)) = text.strip_prefix("@@ -").and_then(hunk) {
            // An empty range stands after its line.
            self.line = if before == 0 { line.saturating_add(1) } else { line };
            (self.before, self.after) = (before, after);
        }
        None
    }
}

/// Reads `12,3 +14,5 @@ …`: the first line before the change, and how many lines the hunk has before and after it.
fn hunk(text: &str) -> Option<(u32, u32, u32)> {
    let mut ranges = text.split(' ');
    let range = |text: &str| {
        let (line, count) = text.split_once(',').unwrap_or((text, "1"));
        Some((line.parse::<u32>().ok()?, count.parse::<u32>().ok()?))
    };
    let (line, before) = range(ranges.next()?)?;
    let (_, after) = range(ranges.next()?.strip_prefix('+')?)?;
    Some((line, before, after))
}

/// Reads `a/one and b/one differ`, of a file that is no text or that the repository's attributes take for none: its name before the change. One that
/// is new had none, and of one that is renamed `rename from` has told it.
fn binary(text: &str) -> Option<String> {
    const AND: &str = " and ";
    let names = text.strip_suffix(" differ")?;
    if let Some(before) = names.strip_suffix(" and /dev/null") {
        return unquoted(before).strip_prefix("a/").map(str::to_owned);
    }
    // Both are as long as each other, whatever stands in them.
    let length = names.len().checked_sub(AND.len())? / 2;
    let (before, after) = (names.get(..length)?, names.get(length..)?.strip_prefix(AND)?);
    let (before, after) = (unquoted(before), unquoted(after));
    let file = before.strip_prefix("a/")?;
    (after.strip_prefix("b/") == Some(file)).then(|| file.to_owned())
}

/// A path as it is, where git quotes it as C does; what is not UTF-8 is in no index.
fn unquoted(path: &str) -> String {
    let Some(inner) = path.strip_prefix('"').and_then(|path| path.strip_suffix('"')) else { return path.to_owned() };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(digit @ b'0'..=b'7') => {
                let mut code = u32::from(digit - b'0');
                while let Some(next @ b'0'..=b'7') = rest.peek().copied().filter(|_| code < 0o40) {
                    code = code * 8 + u32::from(next - b'0');
                    rest.next();
                }
                bytes.push(u8::try_from(code).unwrap_or(b'?'));
            }
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'r') => bytes.push(b'\r'),
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_git_quotes_them() {
        assert_eq!(unquoted(r#""a/na\303\257ve \"x\"\t.py""#), "a/naïve \"x\"\t.py");
        assert_eq!(unquoted("a/plain.py"), "a/plain.py");
    }

    #[test]
    fn of_a_file_without_lines_the_name_before_the_change_is_read() {
        for (line, file) in [
            ("a/src/x.py and b/src/x.py differ", Some("src/x.py")),
            ("a/x and b/x and b/x and b/x differ", Some("x and b/x")),
            (r#""a/na\303\257ve.py" and "b/na\303\257ve.py" differ"#, Some("naïve.py")),
            ("a/gone.py and /dev/null differ", Some("gone.py")),
            ("/dev/null and b/new.py differ", None),
            ("a/old.py and b/renamed.py differ", None),
            ("a/one and b/two differ", None),
            (" and  differ", None),
            ("é and é", None),
        ] {
            assert_eq!(binary(line).as_deref(), file, "{line}");
        }
    }
}
