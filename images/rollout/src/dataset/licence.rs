//! What a repository says about its licence, for whoever trains on it: the newest snapshot's licence file, and which licence that is, as far as its
//! first words tell. A note, and no judgement.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use crate::git::access::{Access, Login};
use crate::git::url::RemoteUrl;
use crate::git::{Git, Home};
use crate::progress::Progress;
use crate::store::Store;

/// The bundle's name in the run's folder, and in scratch space.
const BUNDLE: [&str; 2] = ["snapshot/repository.bundle", "repository.bundle"];
/// The newest snapshot in it.
const NEWEST: &str = "refs/snapshots/0";
/// The folder of git's home, and the repository in it.
const HOME: &str = "licence";
const REPOSITORY: &str = "--git-dir=licence.git";
/// git on files of this machine is never silent for long, and is not watched.
const SILENCE: Duration = Duration::from_mins(1);

/// How much of a bundle is read for what stands in its first lines, in bytes.
const LONGEST_HEAD: u64 = 4096;

/// Licences by words that stand near the beginning of their texts, and their SPDX names; the first that fits counts.
const KNOWN: [(&[&str], &str); 14] = [
    (&["gnu affero general public license", "version 3"], "AGPL-3.0"),
    (&["gnu lesser general public license", "version 3"], "LGPL-3.0"),
    (&["gnu lesser general public license", "version 2.1"], "LGPL-2.1"),
    (&["gnu general public license", "version 3"], "GPL-3.0"),
    (&["gnu general public license", "version 2"], "GPL-2.0"),
    (&["apache license", "version 2.0"], "Apache-2.0"),
    (&["mozilla public license", "2.0"], "MPL-2.0"),
    (&["eclipse public license", "2.0"], "EPL-2.0"),
    (&["boost software license"], "BSL-1.0"),
    (&["free and unencumbered software released into the public domain"], "Unlicense"),
    (&["redistribution and use in source and binary forms", "neither the name"], "BSD-3-Clause"),
    (&["redistribution and use in source and binary forms"], "BSD-2-Clause"),
    (&["permission to use, copy, modify, and/or distribute this software for any purpose"], "ISC"),
    (&["permission is hereby granted, free of charge, to any person obtaining a copy"], "MIT"),
];

/// The note on the repository of a run; none where it has no licence file, or where that cannot be found out, which is no reason to have no dataset.
pub(super) async fn of(store: &Store, scratch: &Path, progress: &Progress) -> Option<String> {
    match read(store, scratch, progress).await {
        Ok(note) => note,
        Err(problem) => {
            tracing::warn!("the repository's licence cannot be looked at: {problem}");
            None
        }
    }
}

async fn read(
    store: &Store,
    scratch: &Path,
    progress: &Progress,
) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
    let [name, file] = BUNDLE;
    let bundle = scratch.join(file);
    let step = progress.step("looking for the repository's licence");
    if store.download(name, &bundle, &step).await?.is_none() {
        return Err(format!("{name} is missing").into());
    }
    let home = scratch.join(HOME);
    std::fs::create_dir_all(&home)?;
    let url = RemoteUrl::parse(&bundle.to_string_lossy())?;
    let access = Access { login: Login::Anonymous, ca: None };
    let address = url.address.clone();
    let git = Git::new(Home::prepare(&home, &url, &access, SILENCE)?, url, SILENCE);
    git.print(&["init", "--quiet", "--bare", "--template=", object_format(&bundle)?, "licence.git"]).await?;
    git.print(&[REPOSITORY, "fetch", "--quiet", "--no-tags", &address, &format!("{NEWEST}:{NEWEST}")]).await?;
    let files = git.print(&[REPOSITORY, "ls-tree", "--name-only", NEWEST]).await?;
    let Some(file) = files.lines().find(|file| is_licence(file)) else { return Ok(None) };
    let text = git.print(&[REPOSITORY, "cat-file", "blob", &format!("{NEWEST}:{file}")]).await?;
    Ok(Some(note(file, &text)))
}

/// What a repository has to be told that takes from this bundle.
fn object_format(bundle: &Path) -> std::io::Result<&'static str> {
    let mut head = Vec::new();
    std::fs::File::open(bundle)?.take(LONGEST_HEAD).read_to_end(&mut head)?;
    let is_sha256 = head.split(|byte| *byte == b'\n').any(|line| line == b"@object-format=sha256");
    Ok(if is_sha256 { "--object-format=sha256" } else { "--object-format=sha1" })
}

/// The note on a licence's text.
fn note(file: &str, text: &str) -> String {
    let words: String = text.split_whitespace().take(300).collect::<Vec<_>>().join(" ").to_lowercase();
    let known = KNOWN.iter().find(|(signs, _)| signs.iter().all(|sign| words.contains(sign)));
    match known {
        Some((_, name)) => format!("{name} ({file})"),
        None => format!("not recognised ({file})"),
    }
}

/// Whether a file in the repository's root is its licence.
fn is_licence(file: &str) -> bool {
    let stem = file.split(['.', '-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    matches!(stem.as_str(), "license" | "licence" | "copying" | "unlicense")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_told_by_their_first_words_and_others_are_named_by_their_file() {
        for (text, expected) in [
            ("                 Apache License\n           Version 2.0, January 2004\n", "Apache-2.0 (LICENSE)"),
            (
                "Copyright (c) Django\n\nRedistribution and use in source and binary forms,\nwith … Neither the name of",
                "BSD-3-Clause (LICENSE)",
            ),
            (
                "MIT License\n\nPermission is hereby granted, free of charge, to any\nperson obtaining a copy",
                "MIT (LICENSE)",
            ),
            ("GNU LESSER GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", "LGPL-3.0 (LICENSE)"),
            ("All rights reserved.", "not recognised (LICENSE)"),
        ] {
            assert_eq!(note("LICENSE", text), expected);
        }
    }

    #[test]
    fn licence_files_go_by_several_names() {
        for file in ["LICENSE", "LICENSE.txt", "licence.md", "COPYING", "LICENSE-MIT", "UNLICENSE"] {
            assert!(is_licence(file), "{file}");
        }
        for file in ["licenses.py", "README", "src"] {
            assert!(!is_licence(file), "{file}");
        }
    }
}
