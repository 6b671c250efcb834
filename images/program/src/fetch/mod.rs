//! Folders of a store brought to this machine: a model, its tokenizer, a dataset. Once, whoever asks at the same time; again only if the store's
//! files are other ones; and not at all where there is no room for them.

mod kind;
mod room;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt, stream};
use sera_crds::contract::FileDigest;
use serde::Deserialize;

pub use kind::Kind;

use crate::failure::{Cause, Explain, Field};
use crate::progress::{Progress, Step};
use crate::store::{Digest, Digester, Object, Store, StoreError, persist};

/// Files that are fetched at once: one connection to a bucket has some 100 MB/s, and a node's line has room for several.
const AT_ONCE: usize = 4;
/// The file that says what a published model's others are.
const MANIFEST: &str = "manifest.json";

/// Why a folder is not here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing.
    #[error("there is no {what} in {uri}: copy its files there, or correct the address")]
    Nothing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        uri: String,
    },
    /// A file has a name that leads elsewhere.
    #[error("{uri} has a file called '{name}', which is no name of a file here: delete it")]
    Name {
        /// Where.
        uri: String,
        /// The name.
        name: String,
    },
    /// It would not fit.
    #[error(
        "{uri} needs {needed} in {} and {free} are free there: give more room, or another place with --scratch",
        folder.display()
    )]
    Room {
        /// Where it is.
        uri: String,
        /// What it needs, for people.
        needed: String,
        /// What there is.
        free: String,
        /// Where it would go.
        folder: PathBuf,
    },
    /// A file came, and is not what it should be.
    #[error("{name} in {uri} is damaged: {problem}; copy it there again")]
    Damaged {
        /// Where it is.
        uri: String,
        /// The file.
        name: String,
        /// How that shows.
        problem: String,
    },
    /// A file was listed, and is gone.
    #[error("{name} was in {uri} and is gone: run this again when nobody changes it")]
    Gone {
        /// Where it was.
        uri: String,
        /// The file.
        name: String,
    },
    /// The place on this machine.
    #[error("{} cannot be written: {source}; name another place with --scratch", path.display())]
    Local {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl FetchError {
    /// Whose turn it is, where `at` names the folder and `credentials` the Secret for it.
    pub fn cause(&self, at: Field, credentials: Field) -> Cause {
        match self {
            Self::Store(error) => {
                let cause = error.explain();
                match cause.field {
                    Some(Field::Store) => cause.at(at),
                    Some(Field::StoreCredentials) => cause.at(credentials),
                    _ => cause,
                }
            }
            Self::Nothing { .. } | Self::Name { .. } => Cause::configuration("NothingToFetch", at),
            Self::Damaged { .. } => Cause::configuration("FetchedDamaged", at),
            Self::Room { .. } => Cause::unavailable("ScratchTooSmall"),
            Self::Gone { .. } => Cause::unavailable("FetchedGone"),
            Self::Local { .. } => Cause::unavailable("ScratchUnavailable"),
        }
    }
}

/// Brings the files of `kind` in `store` into a folder of their own in `scratch`, and returns it. What is there already and has the right length
/// stays: the folder is named after the listing, and files get their names when they are whole.
pub async fn fetch(store: &Store, kind: Kind, scratch: &Path, progress: &Progress) -> Result<PathBuf, FetchError> {
    let uri = store.uri();
    let objects = kind.of(store.objects("").await?);
    if objects.is_empty() {
        return Err(FetchError::Nothing { what: kind.name(), uri: uri.to_owned() });
    }
    if let Some(object) = objects.iter().find(|object| !is_plain(&object.name)) {
        return Err(FetchError::Name { uri: uri.to_owned(), name: object.name.clone() });
    }
    let folder = scratch.join(format!("{}-{}", kind.name(), identity(uri, &objects)));
    std::fs::create_dir_all(&folder).map_err(local(&folder))?;
    let _turn = turn(&folder.with_extension("lock")).await?;
    let missing: Vec<&Object> = objects.iter().filter(|object| !is_there(&folder, object)).collect();
    if missing.is_empty() {
        return Ok(folder);
    }
    room::make_sure(uri, scratch, missing.iter().map(|object| object.bytes).sum())?;
    let known = known(store, &objects).await?;
    let all = All {
        store,
        folder: &folder,
        known,
        done: AtomicU64::new(0),
        total: bytes(&missing),
        step: progress.step(kind.step()),
    };
    stream::iter(missing).map(|object| all.file(object)).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(folder)
}

/// All that is fetched at once.
struct All<'a> {
    store: &'a Store,
    folder: &'a Path,
    /// What files must be, where somebody has said.
    known: HashMap<String, Digest>,
    done: AtomicU64,
    total: u64,
    step: Step,
}

impl All<'_> {
    /// Fetches a file, again where that fails for now.
    async fn file(&self, object: &Object) -> Result<(), FetchError> {
        let passes = |error: &FetchError| matches!(error, FetchError::Store(error) if error.passes());
        persist(&object.name, passes, || self.once(object)).await
    }

    async fn once(&self, object: &Object) -> Result<(), FetchError> {
        let path = self.folder.join(&object.name);
        let folder = path.parent().unwrap_or(self.folder);
        std::fs::create_dir_all(folder).map_err(local(folder))?;
        let part = path.with_added_extension("part");
        let mut so_far = 0;
        let note = |done: u64, _| {
            let before = self.done.fetch_add(done - so_far, Ordering::Relaxed);
            self.step.update("downloading", before + done - so_far, self.total);
            so_far = done;
        };
        let uri = || self.store.uri().to_owned();
        let found = self.store.download_noting(&object.name, &part, note).await;
        if !matches!(found, Ok(Some(_))) {
            self.done.fetch_sub(so_far, Ordering::Relaxed);
        }
        let Some(digest) = found? else { return Err(FetchError::Gone { uri: uri(), name: object.name.clone() }) };
        if let Some(problem) = self.problem(object, &digest) {
            return Err(FetchError::Damaged { uri: uri(), name: object.name.clone(), problem });
        }
        let synced = async {
            tokio::fs::File::open(&part).await?.sync_all().await?;
            tokio::fs::rename(&part, &path).await
        };
        synced.await.map_err(local(&path))
    }

    /// What is wrong with a file that came.
    fn problem(&self, object: &Object, found: &Digest) -> Option<String> {
        if found.bytes != object.bytes {
            return Some(format!("{} bytes came, and it has {}", found.bytes, object.bytes));
        }
        let expected = self.known.get(&object.name).filter(|expected| *expected != found)?;
        Some(format!("its sha256 is {}, and {MANIFEST} says {}", found.sha256, expected.sha256))
    }
}

/// What a published model's manifest says of its files; nothing of a folder that has none.
async fn known(store: &Store, objects: &[Object]) -> Result<HashMap<String, Digest>, FetchError> {
    #[derive(Deserialize)]
    struct Files {
        files: Vec<FileDigest>,
    }
    if !objects.iter().any(|object| object.name == MANIFEST) {
        return Ok(HashMap::new());
    }
    let manifest = store.read(MANIFEST).await?.unwrap_or_default();
    let files = serde_json::from_slice::<Files>(&manifest).map(|manifest| manifest.files).unwrap_or_default();
    Ok(files.into_iter().map(|FileDigest { name, bytes, sha256 }| (name, Digest { bytes, sha256 })).collect())
}

/// Enough to tell one listing from another.
fn identity(uri: &str, objects: &[Object]) -> String {
    let mut digester = Digester::default();
    digester.update(uri.as_bytes());
    for Object { name, bytes, tag } in objects {
        digester.update(format!("\n{name}\t{bytes}\t{tag}").as_bytes());
    }
    digester.finish().sha256.chars().take(16).collect()
}

fn bytes(objects: &[&Object]) -> u64 {
    objects.iter().map(|object| object.bytes).sum()
}

fn is_there(folder: &Path, object: &Object) -> bool {
    std::fs::metadata(folder.join(&object.name)).is_ok_and(|found| found.is_file() && found.len() == object.bytes)
}

/// Whether a name stays within its folder.
fn is_plain(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Waits until nobody else on this machine fetches the same; it is over when the file is dropped.
async fn turn(lock: &Path) -> Result<File, FetchError> {
    let path = lock.to_owned();
    let taken = tokio::task::spawn_blocking(move || {
        let file = File::create(&path)?;
        file.lock()?;
        std::io::Result::Ok(file)
    });
    taken.await.map_err(std::io::Error::other).flatten().map_err(local(lock))
}

fn local(path: &Path) -> impl FnOnce(std::io::Error) -> FetchError + '_ {
    |source| FetchError::Local { path: path.to_owned(), source }
}
