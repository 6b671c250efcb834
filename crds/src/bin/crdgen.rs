//! Writes the `CustomResourceDefinition`s into `crds/manifests/` and into the chart that installs them, or with `--check`
//! tells whether they are up to date.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use sera_crds::definition::{DefinitionError, Manifest, manifests};

const USAGE: &str = "usage: crdgen [--check]\n\nWrites the CustomResourceDefinitions of sera.dev into crds/manifests/ and charts/sera-operator-crds/files/.\nWith --check nothing is written; the exit code is 1 where a manifest is out of date.";

/// Where the manifests go, from this crate: for whoever applies them by hand, and for helm, which sees nothing outside
/// of its chart.
const FOLDERS: [&str; 2] = ["manifests", "../charts/sera-operator-crds/files"];

/// Why the manifests could not be written or checked.
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
        [] => each_manifest(write),
        ["--check"] => each_manifest(check),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
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

fn each_manifest(act: impl Fn(PathBuf, &Manifest) -> Result<(), Error>) -> Result<(), Error> {
    let manifests = manifests()?;
    for folder in FOLDERS.map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
        manifests.iter().try_for_each(|manifest| act(folder.join(&manifest.file), manifest))?;
    }
    Ok(())
}

fn write(path: PathBuf, manifest: &Manifest) -> Result<(), Error> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    match folder.and_then(|()| fs::write(&path, &manifest.yaml)) {
        Ok(()) => {
            println!("{}", path.display());
            Ok(())
        }
        Err(source) => Err(Error::Write { path, source }),
    }
}

fn check(path: PathBuf, manifest: &Manifest) -> Result<(), Error> {
    let current = fs::read_to_string(&path).unwrap_or_default();
    if current == manifest.yaml { Ok(()) } else { Err(Error::OutOfDate { path }) }
}
