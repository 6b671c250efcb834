//! The newest issues of a repository, page by page. A listing that breaks off begins anew after a pause, so that it is of one moment; pages that
//! have not changed since are not sent again, and cost nothing of the rate limit.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::header::{HeaderValue, LINK};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::{Instant, sleep, timeout_at};

use super::{GitHub, GitHubError, Repository, link};

/// The most issues that a page can have, by GitHub's REST description.
const PAGE: u32 = 100;
/// Pages that are looked at: a thousand issues and pull requests, which the listing mixes. Where fewer than a hundred of them are worth showing, so
/// are those before.
const MAX_PAGES: usize = 10;
/// How often a listing begins anew: with doubled pauses from a second on, half a minute of an outage.
const RETRIES: u32 = 5;

/// An issue, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Issue {
    /// Its number in the repository.
    pub(crate) number: u64,
    /// Its title.
    pub(crate) title: String,
    /// Its text in Markdown; none where nothing was written.
    pub(crate) body: Option<String>,
    /// Who opened it; none where the account is gone.
    pub(crate) user: Option<User>,
    /// There where the issue is a pull request.
    pull_request: Option<IgnoredAny>,
}

/// Who opened an issue.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct User {
    /// The account's name.
    pub(crate) login: String,
    /// `User`, `Bot`, `Organization`…
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
}

/// What was listed, and what was in the way of the rest.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Newest first, without pull requests.
    pub(crate) issues: Vec<Issue>,
    /// Why there may be more.
    pub(crate) problem: Option<GitHubError>,
}

/// A page that was read, and what it is asked for again with.
struct Page {
    etag: Option<HeaderValue>,
    issues: Vec<Issue>,
    next: Option<String>,
}

impl GitHub {
    /// The newest issues of `repository`, until they are `enough`, there are no more, or it is `deadline`. What had come by then is returned.
    pub(crate) async fn newest_issues(
        &self,
        repository: &Repository,
        enough: impl Fn(&[Issue]) -> bool,
        deadline: Instant,
    ) -> Listing {
        let mut pages = HashMap::new();
        let mut best = Vec::new();
        let mut failures = 0;
        loop {
            let mut issues = Vec::new();
            let listed = timeout_at(deadline, self.list(repository, &enough, &mut pages, &mut issues)).await;
            let complete = matches!(listed, Ok(Ok(())));
            if complete || issues.len() > best.len() {
                best = issues;
            }
            let problem = match listed {
                Ok(Ok(())) => return Listing { issues: best, problem: None },
                Ok(Err(problem)) => problem,
                Err(_) => {
                    return Listing { issues: best, problem: Some(GitHubError::TimedOut { api: self.api.clone() }) };
                }
            };
            let fits = |pause: &Duration| Instant::now().checked_add(*pause).is_some_and(|again| again < deadline);
            let pause = problem.pause(failures).filter(|pause| failures < RETRIES && fits(pause));
            let Some(pause) = pause else { return Listing { issues: best, problem: Some(problem) } };
            tracing::warn!(seconds = pause.as_secs_f32(), "listing the issues again: {problem}");
            failures += 1;
            sleep(pause).await;
        }
    }

    /// Lists into `issues` until they are enough.
    async fn list(
        &self,
        repository: &Repository,
        enough: &impl Fn(&[Issue]) -> bool,
        pages: &mut HashMap<String, Page>,
        issues: &mut Vec<Issue>,
    ) -> Result<(), GitHubError> {
        let mut route = Some(format!(
            "/repos/{}/{}/issues?state=all&sort=created&direction=desc&per_page={PAGE}",
            repository.owner, repository.name
        ));
        for _ in 0..MAX_PAGES {
            let Some(wanted) = route.take() else { break };
            let page = self.page(&wanted, pages).await?;
            // An issue that is filed meanwhile moves others to the next page, where they come again.
            let new = page.issues.iter().filter(|issue| !issues.iter().any(|known| known.number == issue.number));
            let new: Vec<Issue> = new.cloned().collect();
            issues.extend(new);
            route.clone_from(&page.next);
            if enough(issues) {
                break;
            }
        }
        Ok(())
    }

    /// A page, from GitHub or, where it has not changed, as it was.
    async fn page<'a>(&self, route: &str, pages: &'a mut HashMap<String, Page>) -> Result<&'a Page, GitHubError> {
        let etag = pages.get(route).and_then(|page| page.etag.clone());
        if let Some(answer) = self.get(route, etag.as_ref()).await? {
            let issues: Vec<Issue> =
                serde_json::from_slice(&answer.body).map_err(|error| GitHubError::malformed(&self.api, &error))?;
            let link = answer.headers.get(LINK).and_then(|link| link.to_str().ok());
            let page = Page {
                etag: answer.etag(),
                issues: issues.into_iter().filter(|issue| issue.pull_request.is_none()).collect(),
                next: link.and_then(|link| link::next(link, &self.api)),
            };
            pages.insert(route.to_owned(), page);
        }
        pages.get(route).ok_or_else(|| GitHubError::Malformed {
            api: self.api.clone(),
            problem: "304 for a page that was never sent".to_owned(),
        })
    }
}
