//! Listing issues from a server that answers in the shapes of GitHub's REST description, well and badly.

use std::time::Duration;

use sera_test_servers::{App, Fault, GitHubServer, Issue as Filed, Request};
use tokio::time::Instant;

use super::issues::Listing;
use super::*;

/// Long enough for a listing with a few pauses.
const PATIENCE: Duration = Duration::from_secs(30);

fn filed(numbers: impl Iterator<Item = u64>) -> Vec<Filed> {
    numbers
        .map(|n| Filed { pull_request: n % 3 == 0, ..Filed::new(n, format!("title {n}"), format!("body {n}")) })
        .collect()
}

async fn connect(server: &GitHubServer, login: &Login) -> Result<GitHub, GitHubError> {
    GitHub::connect(&server.api_url().parse().unwrap(), login, &Trust::default(), &Redactor::default()).await
}

async fn listing_within(server: &GitHubServer, patience: Duration, wanted: usize) -> Listing {
    let github = connect(server, &Login::Anonymous).await.unwrap();
    let repository = "acme/billing".parse().unwrap();
    github.newest_issues(&repository, |issues| issues.len() >= wanted, Instant::now() + patience).await
}

async fn listing(server: &GitHubServer) -> Listing {
    listing_within(server, PATIENCE, usize::MAX).await
}

fn numbers(listing: &Listing) -> Vec<u64> {
    listing.issues.iter().map(|issue| issue.number).collect()
}

fn statuses(requests: &[Request]) -> Vec<u16> {
    requests.iter().map(|request| request.status).collect()
}

fn without_pull_requests(numbers: impl Iterator<Item = u64>) -> Vec<u64> {
    numbers.filter(|n| n % 3 != 0).collect()
}

#[tokio::test]
async fn pages_are_followed_by_their_links_and_pull_requests_are_skipped() {
    let server = GitHubServer::start(false, filed((1..=250).rev())).unwrap();
    let listing = listing(&server).await;
    assert!(listing.problem.is_none(), "{:?}", listing.problem);
    assert_eq!(numbers(&listing), without_pull_requests((1..=250).rev()));
    assert_eq!(listing.issues[0].body.as_deref(), Some("body 250"));
    let requests = server.requests();
    assert_eq!(statuses(&requests), [200, 200, 200]);
    assert!(requests[0].target.contains("sort=created&direction=desc&per_page=100"), "{requests:?}");
    assert!(
        requests[1].target.starts_with("/api/v3/repositories/") && requests[1].target.contains("after="),
        "{requests:?}"
    );
    assert!(requests.iter().all(|request| request.authorization.is_none()));
}

#[tokio::test]
async fn no_more_pages_are_asked_for_than_are_needed_and_never_more_than_ten() {
    let server = GitHubServer::start(false, filed((1..=1500).rev())).unwrap();
    assert!(listing_within(&server, PATIENCE, 50).await.issues.len() >= 50);
    assert_eq!(server.requests().len(), 1);
    assert!(listing(&server).await.problem.is_none());
    assert_eq!(server.requests().len(), 11);
}

#[tokio::test]
async fn a_limit_is_waited_out_and_pages_that_were_read_are_not_sent_again() {
    for fault in [Fault::RateLimit(1), Fault::SecondaryLimit(1)] {
        let server = GitHubServer::start(false, filed((1..=150).rev())).unwrap();
        server.fail_next([Fault::None, fault]);
        let listing = listing(&server).await;
        assert!(listing.problem.is_none(), "{:?}", listing.problem);
        assert_eq!(numbers(&listing), without_pull_requests((1..=150).rev()));
        let statuses = statuses(&server.requests());
        assert!(matches!(statuses[..], [200, 403 | 429, 304, 200]), "{statuses:?}");
    }
}

#[tokio::test]
async fn a_limit_that_outlasts_the_time_ends_the_listing_at_once_with_what_there_is() {
    for limit in [Fault::RateLimit(3000), Fault::SecondaryLimit(u64::MAX)] {
        let server = GitHubServer::start(false, filed((1..=150).rev())).unwrap();
        server.fail_next([Fault::None, limit]);
        let listing = listing(&server).await;
        assert!(matches!(listing.problem, Some(GitHubError::Limited { .. })), "{:?}", listing.problem);
        assert_eq!(numbers(&listing), without_pull_requests((51..=150).rev()));
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    for fault in [Fault::Server(502), Fault::Garbage, Fault::Foreign, Fault::BrokenOff] {
        let server = GitHubServer::start(false, filed(1..=2)).unwrap();
        server.fail_next([fault.clone()]);
        let listing = listing(&server).await;
        assert!(listing.problem.is_none(), "{fault:?}: {:?}", listing.problem);
        assert_eq!((numbers(&listing), server.requests().len()), (vec![1, 2], 2), "{fault:?}");
    }
}

#[tokio::test]
async fn what_does_not_pass_is_not_tried_again() {
    let server = GitHubServer::start(false, filed(1..=2)).unwrap();
    server.fail_next([Fault::Forbidden]);
    assert!(matches!(listing(&server).await.problem, Some(GitHubError::Forbidden { .. })));
    server.require_token("the-token");
    assert!(matches!(listing(&server).await.problem, Some(GitHubError::Unauthorized { .. })));
    assert_eq!(server.requests().len(), 2);

    let github = connect(&server, &Login::Token("the-token".into())).await.unwrap();
    let missing = "acme/other".parse().unwrap();
    let listing = github.newest_issues(&missing, |_| false, Instant::now() + PATIENCE).await;
    assert!(matches!(listing.problem, Some(GitHubError::NotFound { .. })), "{:?}", listing.problem);
}

#[tokio::test]
async fn a_server_that_is_slow_or_keeps_failing_is_given_up_in_time() {
    let server = GitHubServer::start(false, filed(1..=2)).unwrap();
    server.fail_next([Fault::Slow(Duration::from_mins(1))]);
    let slow = listing_within(&server, Duration::from_millis(300), 100).await;
    assert!(matches!(slow.problem, Some(GitHubError::TimedOut { .. })), "{:?}", slow.problem);
    let server = GitHubServer::start(false, filed(1..=2)).unwrap();
    server.fail_next([const { Fault::Server(500) }; 9]);
    let failing = listing_within(&server, Duration::from_millis(2500), 100).await;
    assert!(matches!(failing.problem, Some(GitHubError::ServerFailed { status: 500, .. })), "{:?}", failing.problem);
    assert_eq!(server.requests().len(), 2, "after a second and before two more");
}

#[tokio::test]
async fn an_app_proves_who_it_is_and_lists_with_its_installations_token() {
    let server = GitHubServer::start(false, filed(1..=2)).unwrap();
    let app = App::new(4711, 815).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (key, value) in app.keys() {
        std::fs::write(folder.path().join(key), value).unwrap();
    }
    server.require_token("ghs_installation-token");
    server.install(app);
    let redactor = Redactor::default();
    let read = || SecretFiles::read(folder.path(), &redactor).unwrap();
    let login = Login::of(&read()).unwrap();
    let github =
        GitHub::connect(&server.api_url().parse().unwrap(), &login, &Trust::default(), &redactor).await.unwrap();
    let repository = "acme/billing".parse().unwrap();
    let listing = github.newest_issues(&repository, |_| false, Instant::now() + PATIENCE).await;
    assert_eq!(numbers(&listing), [1, 2]);
    assert_eq!(redactor.apply("ghs_installation-token"), "[redacted]");

    let for_git = with_token(read(), &server.api_url().parse().unwrap(), 0, &redactor).await.unwrap();
    assert_eq!(for_git.line("token"), Some("ghs_installation-token"));

    // Another App's key signs for nobody here.
    std::fs::write(folder.path().join("privateKey"), &App::new(4711, 815).unwrap().keys()[2].1).unwrap();
    let refused = with_token(read(), &server.api_url().parse().unwrap(), 0, &redactor).await.err().unwrap();
    assert!(matches!(refused, GitHubError::Unauthorized { .. }), "{refused}");
    std::fs::write(folder.path().join("installationId"), "816").unwrap();
    let missing = with_token(read(), &server.api_url().parse().unwrap(), 0, &redactor).await.err().unwrap();
    assert!(matches!(missing, GitHubError::NotFound { .. } | GitHubError::Unauthorized { .. }), "{missing}");
}

#[tokio::test]
async fn secrets_that_are_no_apps_are_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "pw").unwrap();
    let secret = SecretFiles::read(folder.path(), &Redactor::default()).unwrap();
    let nowhere = "http://127.0.0.1:9".parse().unwrap();
    let same = with_token(secret, &nowhere, 0, &Redactor::default()).await.unwrap();
    assert_eq!(same.keys().collect::<Vec<_>>(), ["password"]);
}

#[test]
fn a_repository_is_an_owner_and_a_name_and_nothing_that_changes_the_path() {
    assert_eq!("acme/billing.rs".parse::<Repository>().unwrap().to_string(), "acme/billing.rs");
    for text in ["acme", "acme/", "/billing", "acme/billing/issues", "acme/..", "acme/b?x", "a b/c", ""] {
        assert!(text.parse::<Repository>().is_err(), "{text}");
    }
}
