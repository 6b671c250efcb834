//! Writes the `CustomResourceDefinition`s into `crds/manifests/` and into the chart that installs them, and the page that documents them into `docs/`;
//! or with `--check` tells whether they are up to date.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use sera_crds::{
    definition::{DefinitionError, definitions, manifests},
    reference,
};

const USAGE: &str = "usage: crdgen [--check]\n\nWrites the CustomResourceDefinitions of sera.dev into crds/manifests/ and charts/sera-operator-crds/files/, and\ntheir reference into docs/api.md.\nWith --check nothing is written; the exit code is 1 where a file is out of date.";

/// Where the manifests go, from this crate: for whoever applies them by hand, and for helm, which sees nothing outside
/// of its chart.
const FOLDERS: [&str; 2] = ["manifests", "../charts/sera-operator-crds/files"];

/// Where the reference goes.
const REFERENCE: &str = "../docs/api.md";

/// Why the files could not be written or checked.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is out of date; run `cargo run --bin crdgen` and commit what it writes")]
    OutOfDate { path: PathBuf },
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => each_file(write),
        ["--check"] => each_file(check),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("error: crdgen takes --check, --help or nothing, and not '{}'", arguments.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn each_file(act: impl Fn(PathBuf, &str) -> Result<(), Error>) -> Result<(), Error> {
    let manifests = manifests()?;
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in FOLDERS.map(|folder| home.join(folder)) {
        manifests.iter().try_for_each(|manifest| act(folder.join(&manifest.file), &manifest.yaml))?;
    }
    act(home.join(REFERENCE), &reference::page(&definitions()))
}

fn write(path: PathBuf, content: &str) -> Result<(), Error> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    match folder.and_then(|()| fs::write(&path, content)) {
        Ok(()) => {
            println!("{}", path.display());
            Ok(())
        }
        Err(source) => Err(Error::Write { path, source }),
    }
}

fn check(path: PathBuf, content: &str) -> Result<(), Error> {
    let current = fs::read_to_string(&path).unwrap_or_default();
    if current == content { Ok(()) } else { Err(Error::OutOfDate { path }) }
}
