//! Tokens of a file, kept for the next time: a start that goes on from a checkpoint should not wait for the tokenizer. A file a set of inputs,
//! believed only if it is whole; losing it loses nothing.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::durable;
use crate::engine::Line;

/// The layout's number and this program's: parts of the key, so that what another release lays out or renders in another way is another file.
const MADE_BY: (u32, &str) = (1, env!("CARGO_PKG_VERSION"));
/// The length of the digest at a file's end, in bytes.
const DIGEST: usize = 32;

/// The place of some tokens.
pub(super) struct Entry {
    path: PathBuf,
}

/// The first line of a file.
#[derive(Serialize, Deserialize)]
struct Head {
    too_long: u64,
    /// Each line's `instance_id` and number of tokens.
    lines: Vec<(String, usize)>,
}

impl Entry {
    /// The place for what is made of a file of this digest, by a renderer of that one, for a context.
    pub(super) fn new(folder: &Path, file: &str, renderer: &str, context: u32) -> Self {
        let (layout, program) = MADE_BY;
        let key = Sha256::digest(format!("{layout} {program} {file} {renderer} {context}"));
        Self { path: folder.join(format!("{}.tokens", hex::encode(key))) }
    }

    /// The lines and how many were left out, if they are there and whole.
    pub(super) fn read(&self) -> Option<(Vec<Line>, u64)> {
        let content = std::fs::read(&self.path).ok()?;
        let found = parse(&content);
        if found.is_none() {
            tracing::warn!(path = %self.path.display(), "the kept tokens are damaged and are made anew");
        }
        found
    }

    /// Keeps lines, if it can.
    pub(super) fn write(&self, lines: &[Line], too_long: u64) {
        let kept = layout(lines, too_long).and_then(|content| {
            std::fs::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
            durable::write(&self.path, &content)
        });
        if let Err(error) = kept {
            tracing::warn!(path = %self.path.display(), "the tokens cannot be kept for the next start: {error}");
        }
    }
}

fn layout(lines: &[Line], too_long: u64) -> std::io::Result<Vec<u8>> {
    let head = Head { too_long, lines: lines.iter().map(|line| (line.id.clone(), line.ids.len())).collect() };
    let mut content = serde_json::to_vec(&head)?;
    content.push(b'\n');
    for line in lines {
        content.extend(line.ids.iter().flat_map(|token| token.to_le_bytes()));
        content.extend(line.loss.iter().map(|loss| u8::from(*loss)));
    }
    let digest = Sha256::digest(&content);
    content.extend_from_slice(&digest);
    Ok(content)
}

fn parse(content: &[u8]) -> Option<(Vec<Line>, u64)> {
    let (content, digest) = content.split_at_checked(content.len().checked_sub(DIGEST)?)?;
    if Sha256::digest(content).as_slice() != digest {
        return None;
    }
    let end = content.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&content[..end]).ok()?;
    let mut rest = &content[end + 1..];
    let mut lines = Vec::with_capacity(head.lines.len());
    for (id, length) in head.lines {
        let (tokens, after) = rest.split_at_checked(length.checked_mul(4)?)?;
        let (loss, after) = after.split_at_checked(length)?;
        rest = after;
        let ids = tokens.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        lines.push(Line { id, ids, loss: loss.iter().map(|loss| *loss == 1).collect() });
    }
    rest.is_empty().then_some((lines, head.too_long))
}
