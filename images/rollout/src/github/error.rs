//! What can go wrong between us and GitHub, told from statuses, headers and messages as its REST description has them; and how long to wait
//! before the same is worth another try.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use super::CredentialsError;
use crate::failure::{Cause, Explain, Field};
use crate::trust::TrustError;

/// How long to wait where a limit is reached and nobody says until when: what GitHub's documentation asks for.
const UNTOLD_LIMIT: Duration = Duration::from_mins(1);
/// The first pause after a failure that may pass; each is twice the one before.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// What is shown of a message, in characters.
const MAX_SAID: usize = 200;

/// Why GitHub does not answer as it should. Each text names the API, and says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitHubError {
    /// The credentials are of no use.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The authorities that this process was given are none.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// 401.
    #[error("{api} refuses the credentials ({said}): check that they are right, not expired and not revoked")]
    Unauthorized {
        /// The API.
        api: String,
        /// What it says.
        said: String,
    },
    /// 403, but for no limit.
    #[error(
        "{api} does not allow it ({said}): give the token or the App read access to the repository's issues and contents"
    )]
    Forbidden {
        /// The API.
        api: String,
        /// What it says.
        said: String,
    },
    /// 404, or 410 where issues are switched off.
    #[error(
        "{api} has no such thing, or these credentials may not see it ({said}): check owner, repository and installation"
    )]
    NotFound {
        /// The API.
        api: String,
        /// What it says.
        said: String,
    },
    /// 403 or 429 with the marks of a limit.
    #[error("{api} lets us ask again in {} s only ({said}): give a token with a higher limit, or wait", wait.as_secs())]
    Limited {
        /// The API.
        api: String,
        /// What it says.
        said: String,
        /// For how long.
        wait: Duration,
    },
    /// 5xx.
    #[error("{api} does not serve for now: {status} ({said})")]
    ServerFailed {
        /// The API.
        api: String,
        /// The status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// Any other status.
    #[error("{api} answers with {status}, which is not understood ({said}): check the API's address")]
    Unexpected {
        /// The API.
        api: String,
        /// The status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// No answer, or half of one.
    #[error("{api} cannot be reached: {problem}")]
    Unreachable {
        /// The API.
        api: String,
        /// What happened.
        problem: String,
    },
    /// Not the JSON that the REST description promises.
    #[error("{api} answers with what is not understood ({problem}): check the API's address")]
    Malformed {
        /// The API.
        api: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The time for all of it is over.
    #[error("{api} has not answered in the time that there was")]
    TimedOut {
        /// The API.
        api: String,
    },
}

impl GitHubError {
    /// The error that an answer other than 2xx stands for.
    pub(super) fn refused(api: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let said = said(status, body);
        let api = api.to_owned();
        let limit = matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
        match limit.then(|| wait(status, headers, &said)).flatten() {
            Some(wait) => Self::Limited { api, said, wait },
            None => Self::of_status(api, status, said),
        }
    }

    fn of_status(api: String, status: StatusCode, said: String) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized { api, said },
            StatusCode::FORBIDDEN => Self::Forbidden { api, said },
            StatusCode::NOT_FOUND | StatusCode::GONE => Self::NotFound { api, said },
            status if status.is_server_error() => Self::ServerFailed { api, status: status.as_u16(), said },
            status => Self::Unexpected { api, status: status.as_u16(), said },
        }
    }

    /// The error that octocrab's stands for.
    pub(super) fn from_octocrab(api: &str, error: octocrab::Error) -> Self {
        match error {
            octocrab::Error::GitHub { source, .. } => {
                let headers = source.headers.clone().unwrap_or_default();
                let body = serde_json::json!({ "message": source.message }).to_string();
                Self::refused(api, source.status_code, &headers, body.as_bytes())
            }
            octocrab::Error::Json { source, .. } => Self::malformed(api, &source),
            error => Self::Unreachable { api: api.to_owned(), problem: causes(&error) },
        }
    }

    /// The error of an answer whose body did not come whole.
    pub(super) fn broken_off(api: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unreachable { api: api.to_owned(), problem: causes(error) }
    }

    /// The error of a client that cannot be made.
    pub(super) fn client(api: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unreachable { api: api.to_owned(), problem: causes(error) }
    }

    /// The error of an answer that is not what was asked for.
    pub(super) fn malformed(api: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Malformed { api: api.to_owned(), problem: causes(error) }
    }

    /// Whether the same may work in a moment.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::ServerFailed { .. } | Self::Unreachable { .. } | Self::Malformed { .. })
    }

    /// How long to wait before the same is worth another try, after `failures` that were not the last; none where it will not help.
    pub(super) fn pause(&self, failures: u32) -> Option<Duration> {
        match self {
            Self::Limited { wait, .. } => Some(*wait),
            error if error.is_transient() => Some(FIRST_PAUSE.saturating_mul(1 << failures.min(16))),
            _ => None,
        }
    }
}

impl Explain for GitHubError {
    fn explain(&self) -> Cause {
        match self {
            Self::Trust(error) => error.explain(),
            Self::Credentials(CredentialsError::Files(_)) => {
                Cause::configuration("CredentialsMissing", Field::GitCredentials)
            }
            Self::Credentials(_) => Cause::configuration("CredentialsInvalid", Field::GitCredentials),
            Self::Unauthorized { .. } => Cause::configuration("AuthenticationFailed", Field::GitCredentials),
            Self::Forbidden { .. } => Cause::configuration("AccessDenied", Field::GitCredentials),
            Self::NotFound { .. } => Cause::configuration("InstallationNotFound", Field::GitCredentials),
            Self::Unexpected { .. } | Self::Malformed { .. } => Cause::unavailable("GitHubNotUnderstood"),
            Self::Limited { .. } => Cause::unavailable("GitHubLimited"),
            Self::ServerFailed { .. } | Self::Unreachable { .. } | Self::TimedOut { .. } => {
                Cause::unavailable("GitHubUnavailable")
            }
        }
    }
}

/// How long a limit lasts, as GitHub tells it: `Retry-After`, or `X-RateLimit-Reset` where nothing remains, or a message without either (a
/// secondary limit). None where the answer has no mark of a limit.
fn wait(status: StatusCode, headers: &HeaderMap, said: &str) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if let Some(seconds) = number(RETRY_AFTER.as_str()) {
        return Some(Duration::from_secs(seconds));
    }
    if number("x-ratelimit-remaining") == Some(0)
        && let Some(reset) = number("x-ratelimit-reset")
    {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A second more, since the header is cut to whole ones.
        return Some(Duration::from_secs(reset.saturating_add(1)).saturating_sub(now));
    }
    let told = said.to_ascii_lowercase().contains("rate limit") || status == StatusCode::TOO_MANY_REQUESTS;
    told.then_some(UNTOLD_LIMIT)
}

/// What an answer says: its `message`, or its status in words, on one line.
fn said(status: StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let said = match serde_json::from_slice(body) {
        Ok(Message { message }) => message,
        Err(_) => status.to_string(),
    };
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_SAID).collect::<String>().trim_end_matches('.').to_owned()
}

/// The last of an error's causes, which says most.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let line = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn refused(status: u16, headers: &[(&str, &str)], message: &str) -> GitHubError {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()));
        let body = serde_json::json!({ "message": message, "documentation_url": "https://docs.github.com/rest" });
        let status = StatusCode::from_u16(status).unwrap();
        GitHubError::refused("https://api.github.com", status, &headers.collect(), body.to_string().as_bytes())
    }

    fn waits(error: &GitHubError) -> Option<u64> {
        match error {
            GitHubError::Limited { wait, .. } => Some(wait.as_secs()),
            _ => None,
        }
    }

    #[test]
    fn a_limit_is_told_from_a_lack_of_rights_and_says_how_long_it_lasts() {
        let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 100;
        let soon = soon.to_string();
        let primary =
            refused(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &soon)], "API rate limit exceeded");
        assert!((99..=101).contains(&waits(&primary).unwrap()), "{primary}");
        assert_eq!(waits(&refused(429, &[("retry-after", "7")], "slow down")), Some(7));
        assert_eq!(
            waits(&refused(403, &[("retry-after", "9"), ("x-ratelimit-remaining", "50")], "secondary")),
            Some(9)
        );
        assert_eq!(waits(&refused(403, &[], "You have exceeded a secondary rate limit.")), Some(60));
        let past =
            refused(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")], "API rate limit exceeded");
        assert_eq!(waits(&past), Some(0), "a clock that goes wrong does no harm");
        let never = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "18446744073709551615")];
        assert!(
            waits(&refused(403, &never, "API rate limit exceeded")).unwrap() > 1 << 60,
            "nor does an end of all time"
        );
        let rights = refused(403, &[("x-ratelimit-remaining", "50")], "Resource not accessible by integration");
        assert!(matches!(rights, GitHubError::Forbidden { .. }), "{rights}");
    }

    #[test]
    fn each_status_has_its_error_and_its_patience() {
        let kinds: Vec<(GitHubError, bool)> = [401, 404, 410, 418, 500, 502]
            .map(|status| {
                let error = refused(status, &[], "Bad credentials");
                let again = error.pause(0).is_some();
                (error, again)
            })
            .into();
        assert!(matches!(&kinds[0], (GitHubError::Unauthorized { said, .. }, false) if said == "Bad credentials"));
        assert!(matches!(kinds[1], (GitHubError::NotFound { .. }, false)));
        assert!(matches!(kinds[2], (GitHubError::NotFound { .. }, false)));
        assert!(matches!(kinds[3], (GitHubError::Unexpected { status: 418, .. }, false)));
        assert!(matches!(kinds[4], (GitHubError::ServerFailed { status: 500, .. }, true)));
        assert!(matches!(kinds[5], (GitHubError::ServerFailed { status: 502, .. }, true)));
        assert_eq!(kinds[4].0.pause(3), Some(Duration::from_secs(8)));
    }

    #[test]
    fn what_is_no_json_is_told_by_its_status_and_a_long_message_is_cut() {
        let page = GitHubError::refused("a", StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>Unicorn!</html>");
        assert!(matches!(&page, GitHubError::ServerFailed { said, .. } if said == "502 Bad Gateway"), "{page}");
        let GitHubError::NotFound { said, .. } = refused(404, &[], &"x y\n".repeat(900)) else { panic!() };
        assert!(said.len() <= MAX_SAID && !said.contains('\n'));
    }
}
