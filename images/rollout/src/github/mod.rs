//! GitHub's REST API, by octocrab, for reading only: who we are to it (`credentials`), what one request meets (`error`), and the issues of a
//! repository (`issues`). Whether a failure here matters is for the caller to decide.

mod credentials;
mod error;
mod issues;
mod link;

use std::str::FromStr;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use octocrab::models::{AppId, InstallationId};
use reqwest::StatusCode;
use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use secrecy::{ExposeSecret, SecretString};
use sera_crds::values::HttpUrl;

use crate::redact::Redactor;
use crate::secrets::SecretFiles;
use crate::trust::Trust;
pub(crate) use credentials::{CredentialsError, Login};
use error::FIRST_PAUSE;
pub(crate) use error::GitHubError;
pub(crate) use issues::Issue;

/// How long a connection may take to be made: TLS through a proxy of an enterprise.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one request may take. GitHub itself ends a request after ten seconds.
const REQUEST: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes: a hundred issues of 65,536 characters, which is GitHub's limit, of up to four bytes each.
const MAX_ANSWER: usize = 32 << 20;

/// A repository by its owner and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    owner: String,
    name: String,
}

/// Why a text names no repository on GitHub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no repository on GitHub: write owner/repository")]
pub(crate) struct RepositoryError(String);

impl FromStr for Repository {
    type Err = RepositoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |part: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            !part.is_empty() && part.len() <= 100 && part != "." && part != ".." && part.bytes().all(known)
        };
        match text.split_once('/') {
            Some((owner, name)) if named(owner) && named(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(RepositoryError(text.to_owned())),
        }
    }
}

impl Repository {
    /// The user or organisation.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// Its name, without the owner.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// A connection to one API.
pub(crate) struct GitHub {
    crab: Octocrab,
    /// The API's address, for messages.
    api: String,
}

/// What the API says.
struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

impl GitHub {
    /// Introduces us to the API at `api`. Only an App has to ask for something first: its installation's token, which the redactor then knows.
    pub(crate) async fn connect(
        api: &HttpUrl,
        login: &Login,
        trust: &Trust,
        redactor: &Redactor,
    ) -> Result<Self, GitHubError> {
        match login {
            Login::Anonymous => Self::build(api, trust, Ok),
            Login::Token(token) => {
                Self::build(api, trust, |builder| Ok(builder.personal_token(token.expose_secret().to_owned())))
            }
            Login::App(_) => {
                let token = installation_token(api, login, trust, redactor).await?;
                Self::build(api, trust, |builder| Ok(builder.personal_token(token.expose_secret().to_owned())))
            }
        }
    }

    fn build(
        api: &HttpUrl,
        trust: &Trust,
        introduce: impl FnOnce(Builder) -> octocrab::Result<Builder>,
    ) -> Result<Self, GitHubError> {
        let address = api.as_str().trim_end_matches('/').to_owned();
        let client = trust.http().connect_timeout(CONNECT).timeout(REQUEST).build();
        let client = client.map_err(|error| GitHubError::client(&address, &error))?;
        let built = Octocrab::builder()
            .base_uri(address.as_str())
            .and_then(introduce)
            .and_then(|builder| builder.build_with_reqwest(client));
        match built {
            Ok(crab) => Ok(Self { crab, api: address }),
            Err(error) => Err(GitHubError::from_octocrab(&address, error)),
        }
    }

    /// Gets `route`, a path with its query; nothing where it is still what `etag` stands for.
    async fn get(&self, route: &str, etag: Option<&HeaderValue>) -> Result<Option<Answer>, GitHubError> {
        let headers = etag.map(|etag| HeaderMap::from_iter([(IF_NONE_MATCH, etag.clone())]));
        let answered = self.crab._get_with_headers(route, headers).await;
        let (head, body) = answered.map_err(|error| GitHubError::from_octocrab(&self.api, error))?.into_parts();
        if head.status == StatusCode::NOT_MODIFIED && etag.is_some() {
            return Ok(None);
        }
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| GitHubError::broken_off(&self.api, error.as_ref()))?.to_bytes();
        if head.status.is_success() {
            Ok(Some(Answer { headers: head.headers, body }))
        } else {
            Err(GitHubError::refused(&self.api, head.status, &head.headers, &body))
        }
    }
}

impl Answer {
    fn etag(&self) -> Option<HeaderValue> {
        self.headers.get(ETAG).cloned()
    }
}

type Builder = octocrab::OctocrabBuilder<
    octocrab::NoSvc,
    octocrab::DefaultOctocrabBuilderConfig,
    octocrab::NoAuth,
    octocrab::NotLayerReady,
>;

/// A Secret for git as git needs it: a GitHub App's keys become a token for its installation, which clones over https as a password does. Any other
/// Secret is left as it is. `retries`: how often GitHub is asked again where that may help.
pub(crate) async fn with_token(
    secret: SecretFiles,
    api: &HttpUrl,
    retries: usize,
    redactor: &Redactor,
) -> Result<SecretFiles, GitHubError> {
    let names_an_app = secret.get("appId").is_some() || secret.get("privateKey").is_some();
    if !names_an_app || secret.get("password").is_some() || secret.get("token").is_some() {
        return Ok(secret);
    }
    let login = Login::of(&secret)?;
    let trust = Trust::from_environment()?;
    let token = (|| installation_token(api, &login, &trust, redactor))
        .retry(
            ExponentialBuilder::default()
                .with_min_delay(FIRST_PAUSE)
                .with_factor(2.0)
                .with_jitter()
                .with_max_times(retries),
        )
        .when(GitHubError::is_transient)
        .notify(|error, pause| tracing::warn!(seconds = pause.as_secs_f32(), "asking for a token again: {error}"))
        .await?;
    Ok(secret.with("token", token))
}

/// Asks for a token of an App's installation; it lives for an hour.
async fn installation_token(
    api: &HttpUrl,
    login: &Login,
    trust: &Trust,
    redactor: &Redactor,
) -> Result<SecretString, GitHubError> {
    let Login::App(app) = login else { return Err(CredentialsError::NoApp.into()) };
    let key = app.key()?;
    let github = GitHub::build(api, trust, |builder| Ok(builder.app(AppId(app.id), key)))?;
    let asked = github.crab.installation_and_token(InstallationId(app.installation)).await;
    let (_, token) = asked.map_err(|error| GitHubError::from_octocrab(&github.api, error))?;
    redactor.hide(token.expose_secret());
    Ok(token)
}

#[cfg(test)]
mod tests;
