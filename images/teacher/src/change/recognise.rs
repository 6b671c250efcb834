//! Which kinds of change a patch shows: told from its removed and added lines alone, so that it does not matter how the patch came to be seen.

use super::{KINDS, Kind};

/// One run of changed lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hunk {
    pub(crate) removed: Vec<String>,
    pub(crate) added: Vec<String>,
}

/// The kinds that the hunks show, in the catalogue's order.
pub(crate) fn kinds_in(hunks: &[Hunk]) -> Vec<Kind> {
    let found: Vec<Kind> = hunks.iter().flat_map(kinds_of).collect();
    KINDS.into_iter().filter(|kind| found.contains(kind)).collect()
}

/// Each removed line is paired with the added line that is most like it; what is left of the added lines was inserted.
fn kinds_of(hunk: &Hunk) -> Vec<Kind> {
    let mut left: Vec<&str> = hunk.added.iter().map(String::as_str).collect();
    let mut kinds = Vec::new();
    for old in &hunk.removed {
        let alike = left.iter().enumerate().max_by_key(|(_, new)| likeness(old, new));
        if let Some((index, _)) = alike.filter(|(_, new)| likeness(old, new) >= ALIKE) {
            kinds.extend(replaced(old, left.remove(index)));
        }
    }
    kinds.extend(inserted(&left));
    kinds
}

/// What part of the longer line, in percent, both lines have in common at their ends; all of it if one is the other in another order.
fn likeness(old: &str, new: &str) -> usize {
    if sorted(old) == sorted(new) {
        return 100;
    }
    let (prefix, suffix) = common(old, new);
    (prefix + suffix) * 100 / old.len().max(new.len()).max(1)
}

/// Lines that have less than this in common are not the same line changed.
const ALIKE: usize = 15;

/// How many bytes two lines have in common at their beginnings and, after that, at their ends.
fn common(old: &str, new: &str) -> (usize, usize) {
    let prefix = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - prefix;
    let suffix = old.bytes().rev().zip(new.bytes().rev()).take(rest).take_while(|(a, b)| a == b).count();
    (prefix, suffix)
}

/// The bytes of a line without their order.
fn sorted(line: &str) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    bytes.sort_unstable();
    bytes
}

/// What added lines are that replace no others.
fn inserted(added: &[&str]) -> Option<Kind> {
    let mut lines = added.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).peekable();
    lines.peek()?;
    let is_note = lines.all(|line| line.starts_with("//") || line.starts_with("# "));
    Some(if is_note { Kind::Note } else { Kind::Guard })
}

/// What turned one line into another.
fn replaced(old: &str, new: &str) -> Option<Kind> {
    let (prefix, suffix) = common(old, new);
    let middle = |line: &str| String::from_utf8_lossy(&line.as_bytes()[prefix..line.len() - suffix]).into_owned();
    let (before, after) = (middle(old), middle(new));
    let signs = |text: &str| text.bytes().all(|byte| b"<>=! ".contains(&byte));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if before.is_empty() && after.is_empty() {
        return None;
    }
    if signs(&before) && signs(&after) && !(before.trim().is_empty() && after.trim().is_empty()) {
        return Some(Kind::Boundary);
    }
    let switches = |line: &str| ["true", "false", "True", "False"].iter().any(|word| line.contains(word));
    if digits(&before) && digits(&after) || switches(old) && switches(new) && !after.contains(' ') && after.len() < 6 {
        return Some(Kind::Default);
    }
    if sorted(old) == sorted(new) {
        return Some(Kind::Order);
    }
    Some(Kind::Message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_that_a_diff_shows_as_one_hunk_are_told_apart() {
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let removed = owned(&["    if count > 3:"]);
        let added = owned(&[
            "    if data is None:",
            "        raise ValueError(\"data must not be missing\")",
            "    if count >= 3:",
        ]);
        assert_eq!(kinds_in(&[Hunk { removed, added }]), [Kind::Guard, Kind::Boundary]);
    }
}
