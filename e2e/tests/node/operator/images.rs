//! The archives of images that were built for the node, as a container engine reads them.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use sera_e2e::images::{self, Image, ImageArchive};
use sera_e2e::progress::Progress;
use serde_json::Value;
use tar::Archive;

use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome; every_image_that_was_built_runs_as_nobody_and_says_what_it_is, servers_have_nothing_to_run_but_themselves];

/// Images of one program each, which distroless images carry too.
const BARE: [Image; 3] = [Image::Operator, Image::Teacher, Image::Trainer];

async fn every_image_that_was_built_runs_as_nobody_and_says_what_it_is(_: Space) -> Result<()> {
    for archive in images::build(&Image::ALL, &Progress::slow_only()).await? {
        let name = archive.image.name();
        let config = config_of(&archive)?;
        ensure!(config["User"] == "65532:65532", "{name} runs as {}", config["User"]);
        let label = |key: &str| &config["Labels"][format!("org.opencontainers.image.{key}")];
        ensure!(label("title") == name && label("version") == env!("CARGO_PKG_VERSION"), "{name} is {config}");
        for key in ["description", "source", "licenses", "revision"] {
            ensure!(
                label(key).as_str().is_some_and(|said| !said.is_empty()),
                "{name} does not say its {key}: {config}"
            );
        }
    }
    Ok(())
}

/// Everything else that may be executed is a library, or what loads them. That this is enough, the other tests show.
async fn servers_have_nothing_to_run_but_themselves(_: Space) -> Result<()> {
    for archive in images::build(&BARE, &Progress::slow_only()).await? {
        let name = archive.image.name();
        let programs = programs_of(&archive)?;
        ensure!(programs == [format!("usr/local/bin/{name}")], "{name} has {programs:?}");
    }
    Ok(())
}

/// The files that lie where programs do.
fn programs_of(archive: &ImageArchive) -> Result<Vec<String>> {
    let manifest: Value = serde_json::from_slice(&file_in(archive, "manifest.json")?)?;
    let layers: Vec<String> = serde_json::from_value(manifest[0]["Layers"].clone())?;
    let mut programs = Vec::new();
    for entry in Archive::new(File::open(&archive.path)?).entries()? {
        let entry = entry?;
        if !layers.iter().any(|layer| entry.path().is_ok_and(|path| path.to_str() == Some(layer))) {
            continue;
        }
        for file in Archive::new(entry).entries()? {
            let file = file?;
            let path = file.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            let is_of_programs = path.split('/').any(|part| part == "bin" || part == "sbin");
            if is_of_programs && !file.header().entry_type().is_dir() {
                programs.push(path);
            }
        }
    }
    Ok(programs)
}

/// What an engine is told to run, and by which labels it is known.
fn config_of(archive: &ImageArchive) -> Result<Value> {
    let manifest: Value = serde_json::from_slice(&file_in(archive, "manifest.json")?)?;
    let config = manifest[0]["Config"].as_str().context("a manifest names its config")?;
    let image: Value = serde_json::from_slice(&file_in(archive, config)?)?;
    Ok(image["config"].clone())
}

fn file_in(archive: &ImageArchive, name: &str) -> Result<Vec<u8>> {
    for entry in Archive::new(File::open(&archive.path)?).entries()? {
        let mut entry = entry?;
        if entry.path()?.to_str() == Some(name) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            return Ok(content);
        }
    }
    anyhow::bail!("{} has no {name}", archive.path.display())
}
