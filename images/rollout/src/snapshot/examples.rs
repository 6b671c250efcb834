//! The style examples of a snapshot: which source they are taken from, and that whoever takes the same snapshot has the same ones. Issues change
//! from one minute to the next, so the first to create the file decides; who comes later takes it over.

use std::collections::BTreeMap;

use bytes::Bytes;
use sera_crds::contract::{StyleExample, StyleOrigin};
use tokio::time::Instant;

use super::Request;
use super::fetch::{Fetched, Fetcher};
use super::part::Part;
use crate::failure::{Cause, Explain};
use crate::git::Git;
use crate::github::{GitHub, GitHubError, Login, Repository};
use crate::redact::Redactor;
use crate::secrets::SecretFiles;
use crate::store::{Creation, Digest, Store, StoreError};
use crate::style;
use crate::trust::Trust;

/// Why there is no file with examples. That there are no examples is no reason.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExamplesError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be written, or read again.
    #[error(
        "the style examples cannot be kept in the scratch folder: {0}; give it more space, or name another with --scratch"
    )]
    Scratch(#[from] std::io::Error),
}

impl Explain for ExamplesError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Scratch(_) => Cause::unavailable("ScratchFull"),
        }
    }
}

/// Takes the examples, and makes them a part of the snapshot.
pub(super) async fn part(
    request: &Request,
    (git, remote, fetched): (&Git, &Fetcher<'_>, &Fetched),
    store: &Store,
    redactor: &Redactor,
) -> Result<(Part, BTreeMap<StyleOrigin, u32>), ExamplesError> {
    let name = format!("{}/{}", super::committed::FOLDER, style::FILE);
    let file = git.home().join(style::FILE);
    let (content, examples) = if let Some(found) = committed(store, &name).await? {
        found
    } else {
        let examples = gather(request, git, remote, fetched, redactor).await;
        style::write(&examples, &file)?;
        settle(store, &name, std::fs::read(&file)?.into(), examples).await?
    };
    std::fs::write(&file, &content)?;
    Ok((Part::new(style::FILE, file, Digest::of(&content)), style::origins(&examples)))
}

/// The file that the store has, if it is one.
async fn committed(store: &Store, name: &str) -> Result<Option<(Bytes, Vec<StyleExample>)>, StoreError> {
    let found = match store.read(name).await {
        Ok(found) => found,
        // What is longer than any of ours is none, and is replaced.
        Err(StoreError::DocumentTooLong { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(found.and_then(|content| style::read(&content).map(|examples| (content, examples))))
}

/// Creates the file, or takes over what another process has created meanwhile.
async fn settle(
    store: &Store,
    name: &str,
    content: Bytes,
    examples: Vec<StyleExample>,
) -> Result<(Bytes, Vec<StyleExample>), StoreError> {
    if store.create(name, content.clone()).await? == Creation::Created {
        return Ok((content, examples));
    }
    if let Some(theirs) = committed(store, name).await? {
        return Ok(theirs);
    }
    tracing::warn!(name, "what the store has there is no file of style examples, and is replaced");
    store.put(name, content.clone()).await?;
    Ok((content, examples))
}

/// Issues, or else commit messages, or else the built-in examples.
async fn gather(
    request: &Request,
    git: &Git,
    remote: &Fetcher<'_>,
    fetched: &Fetched,
    redactor: &Redactor,
) -> Vec<StyleExample> {
    if let Some(repository) = &request.github {
        match from_github(request, repository, redactor).await {
            Ok(examples) if style::is_enough(&examples) => return examples,
            Ok(examples) => {
                tracing::warn!(%repository, found = examples.len(), "too few issues to take the style from");
            }
            Err(error) => tracing::warn!(%repository, "style examples cannot be taken from GitHub: {error}"),
        }
    }
    match from_messages(git, remote, fetched).await {
        Ok(examples) if style::is_enough(&examples) => return examples,
        Ok(examples) => tracing::info!(found = examples.len(), "too few commit messages to take the style from"),
        Err(error) => tracing::warn!("style examples cannot be taken from commit messages: {error}"),
    }
    style::built_in()
}

async fn from_github(
    request: &Request,
    repository: &Repository,
    redactor: &Redactor,
) -> Result<Vec<StyleExample>, GitHubError> {
    let deadline = Instant::now() + request.github_timeout;
    let login = match &request.github_credentials {
        Some(folder) => {
            Login::of(&SecretFiles::read(folder, redactor).map_err(crate::github::CredentialsError::Files)?)?
        }
        None => Login::Anonymous,
    };
    let trust = Trust::from_environment()?;
    let github = GitHub::connect(&request.github_api, &login, &trust, redactor).await?;
    Ok(style::from_issues(&github, repository, deadline).await)
}

async fn from_messages(
    git: &Git,
    remote: &Fetcher<'_>,
    fetched: &Fetched,
) -> Result<Vec<StyleExample>, super::FetchError> {
    let Some(newest) = fetched.commits.first() else { return Ok(Vec::new()) };
    let repository = remote.messages(&newest.id).await?;
    Ok(style::from_messages(git, repository, &newest.id).await?)
}
