//! A tar stream becomes a tree: contents go into the pack, names are checked, nothing is written to the workspace yet.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use tar::{Archive, Entry, EntryType};

use super::TreeError;
use super::node::{Dir, File, Link, Node, PERMISSIONS};
use super::pack::Pack;

/// The most files and directories of a tree: twenty times a large repository's.
const MOST_ENTRIES: usize = 2_000_000;
/// How deep directories may lie: what the kernel takes as a path is no deeper.
const DEEPEST: usize = 512;

/// Reads a tar stream to its end. A tree without files is one with an end; no bytes at all are what a driver sends that thinks the tree is here.
pub(crate) fn unpack(stream: impl Read, pack: &mut Pack) -> Result<Dir, TreeError> {
    let mut stream = BufReader::new(stream);
    if stream.fill_buf().map_err(|error| TreeError::Stream(error.to_string()))?.is_empty() {
        return Err(TreeError::Stream("nothing was sent, and this is not the tree that is here".to_owned()));
    }
    let mut archive = Archive::new(stream);
    let mut root = Dir::empty();
    let entries = archive.entries().map_err(|error| TreeError::Stream(error.to_string()))?;
    for (count, entry) in entries.enumerate() {
        if count == MOST_ENTRIES {
            return Err(TreeError::Stream(format!("it has more than {MOST_ENTRIES} entries")));
        }
        add(&mut root, entry.map_err(|error| TreeError::Stream(error.to_string()))?, pack)?;
    }
    Ok(root)
}

fn add(root: &mut Dir, mut entry: Entry<'_, impl Read>, pack: &mut Pack) -> Result<(), TreeError> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let path = entry.path_bytes().into_owned();
    let names = names(&path)?;
    let mode = entry.header().mode().map_err(|error| TreeError::Stream(error.to_string()))? & PERMISSIONS;
    let node = match kind {
        EntryType::Directory => {
            // The owner must be able to put files there.
            directory(root, &names, &path)?.mode = mode | 0o700;
            return Ok(());
        }
        EntryType::Regular | EntryType::Continuous => {
            let modified = entry.header().mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
            let (content, size) = pack.add(&mut entry)?;
            Node::File(File { mode, size, content, modified: (modified, 0), seen: None })
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            if target.is_empty() || target.contains(&0) {
                return Err(refused(&path, "is a symbolic link to nothing"));
            }
            Node::Link(Link { target: OsString::from_vec(target), seen: None })
        }
        other => return Err(refused(&path, &format!("is of a kind that no checkout has ({other:?})"))),
    };
    let Some((name, above)) = names.split_last() else { return Err(refused(&path, "has no name")) };
    directory(root, above, &path)?.children.insert((*name).to_owned(), node);
    Ok(())
}

/// The names of a path, each of them one that a file beneath the root can have.
fn names(path: &[u8]) -> Result<Vec<&OsStr>, TreeError> {
    if path.first() == Some(&b'/') {
        return Err(refused(path, "is absolute"));
    }
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if names.len() > DEEPEST {
        return Err(refused(path, "lies too deep"));
    }
    if names.iter().any(|name| *name == b".." || name.contains(&0) || name.len() > 255) {
        return Err(refused(path, "has a part that is no name"));
    }
    Ok(names.into_iter().map(OsStr::from_bytes).collect())
}

/// The directory of that path, made where it is not there.
fn directory<'a>(root: &'a mut Dir, names: &[&OsStr], path: &[u8]) -> Result<&'a mut Dir, TreeError> {
    let mut dir = root;
    for name in names {
        let node = dir.children.entry((*name).to_owned()).or_insert_with(|| Node::Dir(Dir::empty()));
        let Node::Dir(below) = node else { return Err(refused(path, "lies beneath what is no directory")) };
        dir = below;
    }
    Ok(dir)
}

fn refused(path: &[u8], why: &str) -> TreeError {
    TreeError::Stream(format!("{} {why}", path.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use proptest::prelude::*;
    use tar::{Builder, EntryType, Header};

    use super::super::node::{Dir, Node};
    use super::super::pack::Pack;
    use super::unpack;

    /// A tar stream of entries: path, kind, content or target.
    fn tar(entries: &[(&[u8], EntryType, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, kind, text) in entries {
            let mut header = Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path);
            header.set_mode(0o4755);
            header.set_mtime(77);
            header.set_entry_type(*kind);
            let body = if *kind == EntryType::Regular { text.as_bytes() } else { b"" };
            if *kind != EntryType::Regular {
                header.as_gnu_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_size(body.len() as u64);
            header.set_cksum();
            builder.append(&header, body).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpacked(entries: &[(&[u8], EntryType, &str)]) -> Result<Dir, String> {
        let folder = tempfile::tempdir().unwrap();
        unpack(&tar(entries)[..], &mut Pack::create(folder.path()).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn files_links_and_directories_become_a_tree() {
        let root = unpacked(&[
            (b"./d/", EntryType::Directory, ""),
            (b"d/a\nb", EntryType::Regular, "text"),
            (b"e/\xff", EntryType::Symlink, "../d"),
        ])
        .unwrap();
        let Some(Node::Dir(dir)) = root.children.get(OsStr::new("d")) else { panic!("{root:?}") };
        let Some(Node::File(file)) = dir.children.get(OsStr::new("a\nb")) else { panic!("{dir:?}") };
        assert_eq!((file.mode, file.size, file.modified), (0o755, 4, (77, 0)), "no set-user-id bit");
        assert!(root.children.contains_key(OsStr::new("e")));
    }

    #[test]
    fn nothing_is_taken_that_leads_out_or_is_no_file() {
        let cases: [(&[u8], EntryType, &str, &str); 7] = [
            (b"/etc/passwd", EntryType::Regular, "x", "is absolute"),
            (b"a/../../b", EntryType::Regular, "x", "no name"),
            (b"..", EntryType::Symlink, "x", "no name"),
            (b"./", EntryType::Regular, "x", "has no name"),
            (b"pipe", EntryType::Fifo, "", "no checkout has"),
            (b"device", EntryType::Block, "", "no checkout has"),
            (b"hard", EntryType::Link, "/etc/shadow", "no checkout has"),
        ];
        for (path, kind, text, why) in cases {
            let error = unpacked(&[(path, kind, text)]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let beneath = unpacked(&[(b"l", EntryType::Symlink, "/etc"), (b"l/passwd", EntryType::Regular, "x")]);
        assert!(beneath.unwrap_err().contains("beneath what is no directory"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_stream_makes_it_panic(at in 0..1536_usize, with in any::<[u8; 24]>()) {
            let mut bytes = tar(&[(b"d/a", EntryType::Regular, "text"), (b"e", EntryType::Symlink, "d")]);
            let end = bytes.len().min(at + with.len());
            bytes[at..end].copy_from_slice(&with[..end - at]);
            let folder = tempfile::tempdir().unwrap();
            let _ = unpack(&bytes[..], &mut Pack::create(folder.path()).unwrap());
        }
    }
}
