//! What is shown of files and directories: lines with their numbers, names two levels deep, and never more than was asked for.

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use super::file::{Found, Refusal, find};
use super::text::lines_of;
use super::{Workspace, file::Opened};
use crate::tree::disk;

/// How deep a directory is listed.
const LEVELS: usize = 2;
/// How much of one line is shown: a minified file is one.
const LONGEST_LINE: usize = 2000;

/// Shows a file or a directory.
pub(super) fn view(
    workspace: Workspace<'_>,
    path: &Path,
    range: Option<(i64, i64)>,
    max_chars: usize,
) -> Result<String, Refusal> {
    let shown = workspace.shown(path);
    match find(workspace, path, OFlag::O_RDONLY)? {
        Found::File(opened) => file(&shown, &opened, range, max_chars),
        Found::Dir(_) if range.is_some() => {
            Err(Refusal::new(format!("{shown} is a directory; a range of lines is for files. View it without one.")))
        }
        Found::Dir(dir) => Ok(directory(&shown, dir.as_fd(), max_chars)),
    }
}

fn file(shown: &str, opened: &Opened, range: Option<(i64, i64)>, max_chars: usize) -> Result<String, Refusal> {
    let count = lines_of(&opened.bytes).len();
    if opened.bytes.contains(&0) {
        return Ok(format!("{shown} is a binary file of {} bytes.", opened.bytes.len()));
    }
    if count == 0 {
        return Ok(format!("{shown} is empty."));
    }
    let (first, last) = match range {
        Some(range) => lines(shown, range, count)?,
        None => (1, count),
    };
    Ok(numbered(&opened.bytes, first, last, max_chars))
}

fn lines(shown: &str, (first, last): (i64, i64), count: usize) -> Result<(usize, usize), Refusal> {
    let wrong = |why: &str| {
        Refusal::new(format!(
            "The range [{first}, {last}] {why}; {shown} has {count} lines. Its first line is 1, and -1 as the last means its end."
        ))
    };
    let from = usize::try_from(first).ok().filter(|first| (1..=count).contains(first));
    let from = from.ok_or_else(|| wrong("does not begin in the file"))?;
    let to = if last == -1 { Some(count) } else { usize::try_from(last).ok() };
    // What lies beyond the end is what there is up to it.
    let to = to.filter(|to| *to >= from).ok_or_else(|| wrong("ends before it begins"))?;
    Ok((from, to.min(count)))
}

/// Lines with their numbers; as many whole ones as fit, and what to do for the others.
pub(super) fn numbered(bytes: &[u8], first: usize, last: usize, max_chars: usize) -> String {
    let lines = lines_of(bytes);
    let last = last.min(lines.len());
    let (mut out, mut chars) = (String::new(), 0);
    for number in first..=last {
        let text = String::from_utf8_lossy(lines[number - 1]);
        let line = format!("{number:>6}\t{}\n", shortened(text.trim_end_matches(['\n', '\r'])));
        chars += line.chars().count();
        if chars > max_chars && number > first {
            let next = number - 1;
            let _ = writeln!(
                out,
                "[lines {first} to {next} of {} are shown; view the others with a range, such as [{number}, {last}]]",
                lines.len()
            );
            return out;
        }
        out.push_str(&line);
    }
    out
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LONGEST_LINE) {
        Some((at, _)) => format!("{} [… {} more characters in this line]", &line[..at], line[at..].chars().count()),
        None => line.to_owned(),
    }
}

fn directory(shown: &str, dir: BorrowedFd<'_>, max_chars: usize) -> String {
    let mut names = Vec::new();
    list(dir, "", LEVELS, &mut names);
    let mut out = format!("{shown}, two levels deep, without hidden names:\n");
    for (at, name) in names.iter().enumerate() {
        if out.len() + name.len() > max_chars && at > 0 {
            let _ = writeln!(out, "[{} more; view a directory of these, or use find]", names.len() - at);
            break;
        }
        out.push_str(name);
        out.push('\n');
    }
    out
}

fn list(dir: BorrowedFd<'_>, above: &str, levels: usize, out: &mut Vec<String>) {
    let mut names = disk::names(dir).unwrap_or_default();
    names.sort();
    for name in names.into_iter().filter(|name| !name.as_encoded_bytes().starts_with(b".")) {
        let is_dir = disk::stat(dir, &name).is_ok_and(|stat| disk::kind(&stat) == SFlag::S_IFDIR);
        let path = format!("{above}{}{}", name.display(), if is_dir { "/" } else { "" });
        out.push(path.clone());
        if is_dir
            && levels > 1
            && let Ok(opened) = disk::open_dir(dir, &name)
        {
            list(opened.as_fd(), &path, levels - 1, out);
        }
    }
}
