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
    /// The file as a whole: it is renamed.
    Whole,
}

impl Place {
    pub(super) fn is_near(&self, other: &Self) -> bool {
        match (self.line(), other.line()) {
            (Some(line), Some(other)) => line.abs_diff(other) <= NEAR,
            // A file that is renamed is changed everywhere.
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
}
