//! Which paths may come out of a sandbox. The sandbox leaves the others out; the driver, which does not trust it with that, asks again.

/// How many bytes make a path too long; Linux opens none of that many.
pub const MAX_PATH: usize = 4096;

/// Whether a path leads below the workspace, and into nothing that belongs to git: not empty, not absolute, no `.` or `..`, and no component that any
/// file system would take for `.git`.
pub fn is_honest(path: &[u8]) -> bool {
    !path.is_empty()
        && path.len() < MAX_PATH
        && !path.contains(&0)
        && path.split(|byte| *byte == b'/').all(is_honest_component)
}

fn is_honest_component(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !names_git(name)
}

/// `.git` as case-blind systems read it, with what Windows drops from the end of a name, its short form, and what macOS passes over within one.
pub fn names_git(name: &[u8]) -> bool {
    let visible: Vec<u8> = String::from_utf8_lossy(name)
        .chars()
        .filter(
            |c| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'),
        )
        .collect::<String>()
        .to_ascii_lowercase()
        .into_bytes();
    let stem = visible.split(|byte| *byte == b':').next().unwrap_or_default();
    let trimmed = stem.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(&[][..], |last| &stem[..=last]);
    matches!(trimmed, b".git" | b"git~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_workspace_or_enter_git_are_refused() {
        for path in [
            &b""[..],
            b"/etc/passwd",
            b"a/../../b",
            b"./a",
            b"a//b",
            b"a/",
            b".git/config",
            b"a/.git",
            b".GIT/hooks/x",
            b".git./x",
            b".git /x",
            b"git~1/x",
            b"GIT~1",
            b".git::$INDEX_ALLOCATION/x",
            b"a\0b",
            ".g\u{200c}it/config".as_bytes(),
        ] {
            assert!(!is_honest(path), "{:?}", String::from_utf8_lossy(path));
        }
        assert!(!is_honest(&[b'a'; MAX_PATH]));
        for path in [
            &b"a"[..],
            b"a/b.c",
            b".gitignore",
            b".github/x",
            b"a\nb",
            b"\xff\xfe",
            b"...",
            b"-x",
            b"git~10",
            b"a b/\"c\"",
        ] {
            assert!(is_honest(path), "{:?}", String::from_utf8_lossy(path));
        }
    }
}
