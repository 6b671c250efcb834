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

fn kinds_of(hunk: &Hunk) -> Vec<Kind> {
    let mut kinds: Vec<Kind> =
        hunk.removed.iter().zip(&hunk.added).filter_map(|(old, new)| replaced(old, new)).collect();
    if hunk.added.len() > hunk.removed.len() {
        kinds.extend(inserted(&hunk.added));
    }
    kinds
}

/// What added lines are, beyond those that replace others.
fn inserted(added: &[String]) -> Option<Kind> {
    let trimmed: Vec<&str> = added.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    let first = trimmed.first()?;
    if trimmed.iter().all(|line| line.starts_with("//") || line.starts_with("# ")) {
        return Some(Kind::Note);
    }
    let guards = ["if ", "if(", "guard ", "debug_assert!("];
    trimmed
        .iter()
        .any(|line| guards.iter().any(|guard| line.starts_with(guard)))
        .then_some(Kind::Guard)
        .or((!first.is_empty()).then_some(Kind::Guard))
}

/// What turned one line into another.
fn replaced(old: &str, new: &str) -> Option<Kind> {
    let prefix = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
    let rest = |line: &str| line.len() - prefix;
    let suffix =
        old.bytes().rev().zip(new.bytes().rev()).take_while(|(a, b)| a == b).count().min(rest(old)).min(rest(new));
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
    let sorted = |line: &str| {
        let mut bytes = line.as_bytes().to_vec();
        bytes.sort_unstable();
        bytes
    };
    if sorted(old) == sorted(new) {
        return Some(Kind::Order);
    }
    Some(Kind::Message)
}
