//! The editor's operations on files of the workspace. What it answers is read by a model: it says what is there now, or what to do instead.

mod file;
mod text;
mod view;

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::tree::node::Digest;
use crate::wire::EditOperation;
use file::{Opened, Refusal};

/// How many changes of a file can be taken back.
const MOST_UNDOS: usize = 32;
/// How many bytes of earlier texts are kept altogether; the oldest go first.
const MOST_UNDO_BYTES: usize = 64 << 20;

/// The editor, with what it can take back.
#[derive(Default)]
pub(crate) struct Editor {
    done: HashMap<PathBuf, Vec<Change>>,
    bytes: usize,
}

/// A change that the editor made.
struct Change {
    /// What was there before; nothing where the file is new.
    before: Option<Vec<u8>>,
    /// What it left there.
    after: Digest,
}

/// The workspace that is edited.
#[derive(Clone, Copy)]
pub(crate) struct Workspace<'a> {
    /// Opened.
    pub(crate) dir: BorrowedFd<'a>,
    /// As commands see it.
    pub(crate) path: &'a Path,
}

impl Editor {
    /// Does it, and says what is there now; or says why not.
    pub(crate) fn run(
        &mut self,
        workspace: Workspace<'_>,
        operation: &EditOperation,
        max_chars: u32,
    ) -> Result<String, Refusal> {
        let max_chars = max_chars as usize;
        match operation {
            EditOperation::View { path, range } => {
                let path = workspace.relative(path)?;
                view::view(workspace, &path, *range, max_chars)
            }
            EditOperation::Create { path, text } => self.create(workspace, &workspace.relative(path)?, text),
            EditOperation::StrReplace { path, old, new } => {
                let change = |name: &str, bytes: &[u8]| text::replace(name, bytes, old, new);
                self.edit(workspace, &workspace.relative(path)?, max_chars, change)
            }
            EditOperation::Insert { path, line, text } => {
                let change = |name: &str, bytes: &[u8]| text::insert(name, bytes, *line, text);
                self.edit(workspace, &workspace.relative(path)?, max_chars, change)
            }
            EditOperation::Undo { path } => self.undo(workspace, &workspace.relative(path)?),
        }
    }

    fn create(&mut self, workspace: Workspace<'_>, path: &Path, text: &str) -> Result<String, Refusal> {
        file::create(workspace, path, text.as_bytes())?;
        self.remember(path, None, text.as_bytes());
        Ok(format!("{} has been created.", workspace.shown(path)))
    }

    fn edit(
        &mut self,
        workspace: Workspace<'_>,
        path: &Path,
        max_chars: usize,
        change: impl FnOnce(&str, &[u8]) -> Result<text::Edit, Refusal>,
    ) -> Result<String, Refusal> {
        let shown = workspace.shown(path);
        let mut opened = Opened::to_edit(workspace, path)?;
        let edit = change(&shown, &opened.bytes)?;
        opened.write(&edit.bytes, &shown)?;
        self.remember(path, Some(opened.bytes), &edit.bytes);
        let excerpt = view::numbered(&edit.bytes, edit.first_line, edit.last_line, max_chars);
        Ok(format!("{shown} has been edited. Around the change it reads now:\n{excerpt}"))
    }

    fn undo(&mut self, workspace: Workspace<'_>, path: &Path) -> Result<String, Refusal> {
        let shown = workspace.shown(path);
        let none = || Refusal::new(format!("There is no change of {shown} to take back that was made with this tool."));
        let change = self.done.get(path).and_then(|changes| changes.last()).ok_or_else(none)?;
        let mut opened = Opened::to_edit(workspace, path)?;
        if <Digest>::from(Sha256::digest(&opened.bytes)) != change.after {
            return Err(Refusal::new(format!(
                "{shown} has been changed by something else since this tool changed it; taking that back would lose it."
            )));
        }
        let what = if let Some(before) = &change.before {
            opened.write(before, &shown)?;
            "is as it was before the last change"
        } else {
            file::remove(workspace, path)?;
            "was new and has been removed"
        };
        if let Some(change) = self.done.get_mut(path).and_then(Vec::pop) {
            self.bytes -= change.before.map_or(0, |before| before.len());
        }
        Ok(format!("{shown} {what}."))
    }

    fn remember(&mut self, path: &Path, before: Option<Vec<u8>>, after: &[u8]) {
        self.bytes += before.as_ref().map_or(0, Vec::len);
        let changes = self.done.entry(path.to_owned()).or_default();
        changes.push(Change { before, after: Sha256::digest(after).into() });
        while changes.len() > MOST_UNDOS || (self.bytes > MOST_UNDO_BYTES && !changes.is_empty()) {
            self.bytes -= changes.remove(0).before.map_or(0, |before| before.len());
        }
    }
}

impl Workspace<'_> {
    /// A path as the model wrote it, as one from the workspace; empty for the workspace itself.
    fn relative(self, path: &str) -> Result<PathBuf, Refusal> {
        let here = self.path.display();
        let outside = || {
            Refusal::new(format!(
                "{path} is outside of {here}. This tool edits files beneath {here} only; use bash for others."
            ))
        };
        if path.is_empty() || path.contains('\0') {
            return Err(Refusal::new(format!("A path is needed, such as {here}/README.md.")));
        }
        let relative = if path.starts_with('/') {
            Path::new(path).strip_prefix(self.path).map_err(|_| outside())?
        } else {
            Path::new(path)
        };
        let mut out = PathBuf::new();
        for part in relative.components() {
            match part {
                std::path::Component::Normal(name) => out.push(name),
                std::path::Component::ParentDir if out.pop() => {}
                std::path::Component::CurDir => {}
                _ => return Err(outside()),
            }
        }
        Ok(out)
    }

    /// A path as the model is told it.
    fn shown(self, path: &Path) -> String {
        let path = if path.as_os_str().is_empty() { self.path.to_owned() } else { self.path.join(path) };
        path.display().to_string()
    }
}
