//! Reads the contents of many objects from git in one go, each handed on as soon as it is whole.

use std::io;

use crate::git::{Git, GitError, Run, lines};

/// Reads these objects, in this order, and hands each to `sink` with its place in the list.
pub(super) async fn read(
    git: &Git,
    repository: &str,
    objects: impl Iterator<Item = &str>,
    mut sink: impl FnMut(usize, Vec<u8>) -> io::Result<()>,
) -> Result<(), GitError> {
    let repository = format!("--git-dir={repository}");
    let input = lines(objects.map(str::to_owned));
    if input.is_empty() {
        return Ok(());
    }
    let arguments = [repository.as_str(), "cat-file", "--batch", "--buffer"];
    let mut batch = Batch::default();
    git.run(Run { arguments: &arguments, input: &input, ..Run::default() }, |bytes| batch.take(bytes, &mut sink)).await
}

/// The answer of `git cat-file --batch` in the making: `<id> <type> <size>`, a line feed, the content, a line feed, over and over.
#[derive(Default)]
struct Batch {
    header: Vec<u8>,
    /// The content that is being read, and how much of it is to come, its line feed included.
    content: Option<(Vec<u8>, usize)>,
    read: usize,
}

impl Batch {
    fn take(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(usize, Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some((content, missing)) = &mut self.content else {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                self.header.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
                bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
                if end.is_some() {
                    let size = size(&self.header)?;
                    self.header.clear();
                    self.content = Some((Vec::with_capacity(size), size + 1));
                }
                continue;
            };
            let piece = bytes.len().min(*missing);
            content.extend_from_slice(&bytes[..piece]);
            bytes = &bytes[piece..];
            *missing -= piece;
            if *missing == 0 {
                let mut whole = std::mem::take(content);
                whole.pop();
                self.content = None;
                sink(self.read, whole)?;
                self.read += 1;
            }
        }
        Ok(())
    }
}

/// The size that a header tells.
fn size(header: &[u8]) -> io::Result<usize> {
    let header = String::from_utf8_lossy(header);
    let size = header.rsplit(' ').next().and_then(|size| size.parse().ok());
    size.ok_or_else(|| io::Error::other(format!("git says '{header}' of an object that it has just listed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_put_together_whatever_pieces_they_come_in() {
        let answer = b"11 blob 3\na\nb\n22 blob 0\n\n33 blob 2\n\n\n\n";
        for piece in 1..=answer.len() {
            let mut batch = Batch::default();
            let mut found = Vec::new();
            for bytes in answer.chunks(piece) {
                batch
                    .take(bytes, &mut |at, content| {
                        found.push((at, content));
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(found, [(0, b"a\nb".to_vec()), (1, Vec::new()), (2, b"\n\n".to_vec())], "in pieces of {piece}");
        }
    }

    #[test]
    fn an_object_that_is_not_there_ends_the_reading() {
        let error = Batch::default().take(b"11 missing\n", &mut |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("11 missing"), "{error}");
    }
}
