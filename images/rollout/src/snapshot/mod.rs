//! The first stage: takes commits of a repository and commits them to the store, with an index of their functions: `snapshot/repository.bundle`,
//! `snapshot/functions.jsonl.zst` and, last, `snapshot/manifest.json`.
//! Run again, it finds its manifest, checks the files against it, and is done.

mod bundle;
pub(crate) mod committed;
mod examples;
mod fetch;
mod part;
mod rehearsal;
mod revision;
mod selection;
pub(crate) mod stored;
mod submodules;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sera_crds::contract::{
    CONTRACT_VERSION, FunctionSelection, SnapshotFile, SnapshotManifest, SnapshotSource, StageResult, StyleOrigin,
};
use sera_crds::values::HttpUrl;

use crate::failure::{Cause, Explain};
use crate::git::access::{Access, AccessError};
use crate::git::url::{RemoteUrl, RemoteUrlError};
use crate::git::{Git, Home};
use crate::github::{self, GitHubError, Repository};
use crate::index::{self, IndexError};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::scratch::{Scratch, ScratchError};
use crate::secrets::SecretFiles;
use crate::store::{self, Creation, Store, StoreError};
use bundle::BundleError;
use committed::{CommittedError, Found};
use examples::ExamplesError;
use fetch::{FetchError, Fetched, Fetcher};
use part::Part;
use submodules::{SubmoduleError, Submodules};

/// The function index's name, in git's home and in the store.
const FUNCTIONS: &str = "functions.jsonl.zst";

/// What to take, and where everything is.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The repository's address, not yet understood.
    pub(crate) url: String,
    /// A branch, tag or commit; `HEAD` is the default branch.
    pub(crate) revision: String,
    /// How many commits, at least one.
    pub(crate) commits: u32,
    /// The window that they are spread over, in days before the newest.
    pub(crate) lookback_days: u32,
    /// Which functions are indexed, and which are set aside.
    pub(crate) selection: FunctionSelection,
    /// The run's own folder.
    pub(crate) store: String,
    /// The mounted Secret for the repository.
    pub(crate) git_credentials: Option<PathBuf>,
    /// The mounted Secret for the store.
    pub(crate) store_credentials: Option<PathBuf>,
    /// The repository on GitHub, where it is there.
    pub(crate) github: Option<Repository>,
    /// GitHub's API.
    pub(crate) github_api: HttpUrl,
    /// The mounted Secret for GitHub.
    pub(crate) github_credentials: Option<PathBuf>,
    /// How long GitHub may take for the style examples.
    pub(crate) github_timeout: Duration,
    /// Whether submodules are taken too.
    pub(crate) submodules: bool,
    /// Where scratch folders are made.
    pub(crate) scratch: PathBuf,
    /// How long a server may say nothing.
    pub(crate) silence: Duration,
    /// How often a request to the repository's server is tried again.
    pub(crate) retries: usize,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The repository's address is wrong.
    #[error(transparent)]
    Url(#[from] RemoteUrlError),
    /// The repository's credentials are.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// GitHub does not give a token for them.
    #[error(transparent)]
    GitHub(#[from] GitHubError),
    /// The submodules cannot be had.
    #[error(transparent)]
    Submodules(#[from] SubmoduleError),
    /// The style examples cannot be kept.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// The commits cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The bundle cannot be made.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The functions cannot be indexed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store has something else.
    #[error(transparent)]
    Committed(#[from] CommittedError),
    /// There is no scratch space.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// git's home cannot be written.
    #[error("git's configuration cannot be written to the scratch folder: {0}")]
    Home(#[source] std::io::Error),
}

impl Explain for SnapshotError {
    fn explain(&self) -> Cause {
        match self {
            Self::Url(error) => error.explain(),
            Self::Access(error) => error.explain(),
            Self::GitHub(error) => error.explain(),
            Self::Submodules(error) => error.explain(),
            Self::Examples(error) => error.explain(),
            Self::Fetch(error) => error.explain(),
            Self::Bundle(error) => error.explain(),
            Self::Index(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Committed(error) => error.explain(),
            Self::Scratch(_) | Self::Home(_) => Cause::unavailable("ScratchUnavailable"),
        }
    }
}

/// Takes the snapshot, or finds that it was taken.
pub(crate) async fn run(
    request: &Request,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<StageResult, SnapshotError> {
    let url = RemoteUrl::parse(&request.url)?;
    let source = SnapshotSource {
        url: url.text.clone(),
        revision: request.revision.clone(),
        commits: request.commits,
        lookback_days: request.lookback_days,
        submodules: request.submodules,
        selection: request.selection.clone(),
    };
    let secret = store::secret(request.store_credentials.as_deref(), redactor)?;
    let store = Store::open(&request.store, secret.as_ref())?;
    let found = committed::find(&store, &source, progress).await?;
    if let Found::Whole(result) = found {
        tracing::info!("the snapshot is in the store already");
        return Ok(result);
    }

    store.probe().await?;
    let secret = match request.git_credentials.as_deref().map(|folder| SecretFiles::read(folder, redactor)) {
        Some(Ok(secret)) => Some(Ok(github::with_token(secret, &request.github_api, request.retries, redactor).await?)),
        unreadable => unreadable,
    };
    let access = Access::resolve(&url, secret)?;
    let scratch = Scratch::create(&request.scratch)?;
    let home = Home::prepare(scratch.path(), &url, &access, request.silence).map_err(SnapshotError::Home)?;
    let git = Git::new(home, url, request.silence);
    git.check_key().await.map_err(FetchError::Git)?;
    if git.url().is_rehearsal() {
        rehearsal::lay(&git).await.map_err(FetchError::Git)?;
    }
    let remote = Fetcher::connect(&git, progress, request.retries).await?;
    let fetched = match &found {
        Found::Damaged(manifest, ..) => {
            tracing::warn!("files in the store are missing or damaged: taking the same commits again");
            let originals: Vec<&str> = manifest.commits.iter().map(|commit| commit.original.as_str()).collect();
            remote.exactly(&originals).await?
        }
        Found::Nothing | Found::Whole(_) => {
            let count = usize::try_from(request.commits).unwrap_or(usize::MAX);
            remote.spread(&request.revision, count, request.lookback_days).await?
        }
    };
    let fetched = if request.submodules { with_submodules(&git, fetched, progress).await? } else { fetched };
    let style = examples::part(request, (&git, &remote, &fetched), &store, redactor);
    let (manifest, parts) = make(&git, &fetched, source, style, progress).await?;
    match found {
        Found::Damaged(_, damaged, result) => {
            restore(&store, &damaged, &parts, progress).await?;
            Ok(result)
        }
        Found::Nothing | Found::Whole(_) => commit(&store, &manifest, &parts, progress).await,
    }
}

/// The same commits, with the content of their submodules in their trees.
async fn with_submodules(git: &Git, mut fetched: Fetched, progress: &Progress) -> Result<Fetched, SubmoduleError> {
    let step = progress.step("fetching the submodules");
    let mut submodules = Submodules::new(git, fetched.repository, &step);
    for commit in &mut fetched.commits {
        commit.tree = submodules.expand(&commit.tree).await?;
    }
    Ok(fetched)
}

/// Makes every file of a snapshot of what was fetched, and the manifest that describes them. `style` comes last: it is the one file that is in the
/// store already when it is made.
async fn make(
    git: &Git,
    fetched: &Fetched,
    source: SnapshotSource,
    style: impl Future<Output = Result<(Part, BTreeMap<StyleOrigin, u32>), ExamplesError>>,
    progress: &Progress,
) -> Result<(SnapshotManifest, Vec<Part>), SnapshotError> {
    let commits = bundle::commits(git, fetched).await?;
    let trees: Vec<&str> = commits.iter().map(|commit| commit.tree.as_str()).collect();
    let step = progress.step("indexing the functions");
    let index = index::build(git, fetched.repository, &trees, &source.selection, &step).await?;
    let counts = index.counts();
    let file = git.home().join(FUNCTIONS);
    let functions = Part::new(FUNCTIONS, file.clone(), index.write(file).await?);
    drop(step);

    let bundle = bundle::write(git, fetched, &commits, &progress.step("packing the bundle")).await?;
    let (style, style_origins) = style.await?;
    let manifest = SnapshotManifest {
        version: CONTRACT_VERSION,
        source,
        commits,
        bundle: bundle.described.clone(),
        functions: functions.described.clone(),
        index: counts,
        style: style.described.clone(),
        style_origins,
    };
    Ok((manifest, vec![bundle, functions, style]))
}

/// Puts files back that a manifest still describes, if those made anew are the same.
async fn restore(
    store: &Store,
    damaged: &[SnapshotFile],
    parts: &[Part],
    progress: &Progress,
) -> Result<(), SnapshotError> {
    let restored: Vec<&Part> = parts.iter().filter(|part| damaged.contains(&part.described)).collect();
    if let Some(lost) = damaged.iter().find(|file| restored.iter().all(|part| part.described != **file)) {
        return Err(CommittedError::Damaged { file: committed::path(lost) }.into());
    }
    upload(store, restored, progress).await?;
    Ok(())
}

/// Stores the files and then the manifest, which only one process can create. Who comes second has what the first has written, if that is whole.
async fn commit(
    store: &Store,
    manifest: &SnapshotManifest,
    parts: &[Part],
    progress: &Progress,
) -> Result<StageResult, SnapshotError> {
    if let Some(result) = committed_by_another(store, &manifest.source, progress).await? {
        return Ok(result);
    }
    if let Err(error) = upload(store, parts, progress).await {
        // Who was faster sweeps unfinished uploads away when it has committed, and this may have been one of them.
        return committed_by_another(store, &manifest.source, progress).await?.ok_or_else(|| error.into());
    }
    let encoded = committed::encode(manifest)?;
    match store.create(committed::MANIFEST, encoded.clone()).await? {
        Creation::Created => {
            for file in manifest.files() {
                store.sweep_unfinished(&committed::path(file)).await;
            }
            Ok(committed::result(manifest, &encoded))
        }
        Creation::Existed => {
            committed_by_another(store, &manifest.source, progress).await?.ok_or_else(|| CommittedError::Raced.into())
        }
    }
}

async fn upload<'a>(
    store: &Store,
    parts: impl IntoIterator<Item = &'a Part>,
    progress: &Progress,
) -> Result<(), StoreError> {
    let step = progress.step("storing the snapshot");
    for part in parts {
        store.upload(&committed::path(&part.described), &part.file, &step).await?;
    }
    Ok(())
}

/// The result of a process that was faster, if it has left a whole snapshot.
async fn committed_by_another(
    store: &Store,
    source: &SnapshotSource,
    progress: &Progress,
) -> Result<Option<StageResult>, SnapshotError> {
    match committed::find(store, source, progress).await? {
        Found::Nothing => Ok(None),
        Found::Whole(result) => {
            tracing::info!("another process has committed this snapshot");
            Ok(Some(result))
        }
        Found::Damaged(..) => Err(CommittedError::Raced.into()),
    }
}
