//! What a model's directory has beside its configuration and its weights: copied untouched to what becomes of it, but for which
//! tokens end an answer, where training has taught another one. Licences go along.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::Path;

use sera_crds::contract::FileDigest;

use super::{FilesError, beside};

/// Those that lie in the directory itself.
const FILES: [&str; 13] = [
    "LICENSE",
    "NOTICE",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];
/// Where transformers keeps further chat templates, such as the one for conversations with tools.
const TEMPLATES: &str = "additional_chat_templates";

/// The names of those that a directory has, relative to it, such as `additional_chat_templates/tool_use.jinja`.
pub(super) fn of(folder: &Path) -> Result<Vec<String>, FilesError> {
    let files = FILES.into_iter().filter(|name| folder.join(name).is_file()).map(str::to_owned);
    Ok(files.chain(listed(folder, is_template)?).collect())
}

/// Whether a file that lies in a model's directory itself is one of them.
pub(super) fn is_file(name: &str) -> bool {
    FILES.contains(&name)
}

/// Name, size and sha256 of a file, by its name relative to `folder`.
pub(super) fn digest(folder: &Path, name: &str) -> Result<FileDigest, FilesError> {
    let path = folder.join(name);
    let file = File::open(&path).map_err(FilesError::read(&path))?;
    Ok(FileDigest { name: name.to_owned(), ..beside::digest(&file, &path)? })
}

/// Writes one whole, by its name relative to `folder`.
pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> Result<FileDigest, FilesError> {
    let Some((within, file)) = name.rsplit_once('/') else { return beside::write(folder, name, content) };
    let within = folder.join(within);
    std::fs::create_dir_all(&within).map_err(FilesError::write(&within))?;
    let digest = beside::write(&within, file, content)?;
    beside::sync_folder(&within)?;
    Ok(FileDigest { name: name.to_owned(), ..digest })
}

/// Takes away the further templates of a model that was there, what a killed try left of such, and their folder if it has nothing else.
pub(super) fn remove_templates(folder: &Path) -> Result<(), FilesError> {
    for name in listed(folder, |name| is_template(name) || name.ends_with(".jinja.partial"))? {
        let path = folder.join(name);
        std::fs::remove_file(&path).map_err(FilesError::write(&path))?;
    }
    let within = folder.join(TEMPLATES);
    match std::fs::remove_dir(&within) {
        Err(error) if is_no_folder(&error) || error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed.map_err(FilesError::write(&within)),
    }
}

/// Whether a file that lies in the folder of templates is one: others' names could mean something to whoever reads them.
fn is_template(name: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let is_own = |stem: &str| !stem.is_empty() && !stem.starts_with('.') && stem.chars().all(is_plain);
    name.strip_suffix(".jinja").is_some_and(is_own)
}

/// The files of the folder of templates that are wanted, in the order of their names; none where there is no such folder.
fn listed(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, FilesError> {
    let within = folder.join(TEMPLATES);
    let listing = match std::fs::read_dir(&within) {
        Err(error) if is_no_folder(&error) => return Ok(Vec::new()),
        listing => listing.map_err(FilesError::read(&within))?,
    };
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry.map_err(FilesError::read(&within))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Not the entry's own type: in a hub's cache every file is a link to one.
        if is_wanted(&name) && entry.path().is_file() {
            names.push(format!("{TEMPLATES}/{name}"));
        }
    }
    names.sort();
    Ok(names)
}

fn is_no_folder(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_plain_names_go_along_and_nothing_else_that_lies_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        assert!(of(folder.path()).unwrap().is_empty());
        let within = folder.path().join(TEMPLATES);
        std::fs::create_dir_all(within.join("folder.jinja")).unwrap();
        for name in ["tool_use.jinja", "rag-2.jinja", ".hidden.jinja", "a b.jinja", "notes.txt"] {
            std::fs::write(within.join(name), name).unwrap();
        }
        std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        std::fs::write(folder.path().join("other.json"), "{}").unwrap();
        let names =
            ["tokenizer.json", "additional_chat_templates/rag-2.jinja", "additional_chat_templates/tool_use.jinja"];
        assert_eq!(of(folder.path()).unwrap(), names);
    }

    #[test]
    fn a_template_is_written_into_its_folder_and_known_by_its_name_there() {
        let folder = tempfile::tempdir().unwrap();
        let name = "additional_chat_templates/tool_use.jinja";
        let written = write(folder.path(), name, b"{{ tools }}").unwrap();
        assert_eq!((written.name.as_str(), written.bytes), (name, 11));
        assert_eq!(digest(folder.path(), name).unwrap(), written);
        assert_eq!(std::fs::read_dir(folder.path().join(TEMPLATES)).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn the_templates_of_a_model_that_is_replaced_go_and_what_is_somebody_s_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        remove_templates(folder.path()).unwrap();
        let within = folder.path().join(TEMPLATES);
        for other in [None, Some("notes.txt")] {
            write(folder.path(), "additional_chat_templates/tool_use.jinja", b"{{ tools }}").unwrap();
            for name in [Some(".rag.jinja.partial"), other].into_iter().flatten() {
                std::fs::write(within.join(name), "half").unwrap();
            }
            remove_templates(folder.path()).unwrap();
            assert_eq!(within.exists(), other.is_some());
        }
        assert_eq!(std::fs::read_dir(&within).unwrap().count(), 1);
    }
}
