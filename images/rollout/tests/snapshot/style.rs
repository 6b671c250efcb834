//! Style examples: from GitHub, from commit messages, or built in; never a reason to fail, and never a leak.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sera_crds::contract::{StyleExample, StyleOrigin};
use sera_git_server::{Access, GitServer, GitServerConfig};
use sera_test_servers::{App, Fault, GitHubServer, Issue};

use crate::support::{Finished, Place, Snapshot, git, git_as_ada, repository};

const TEXT: &str = "When the invoice has no lines, the total is printed as minus zero and the export refuses the file; it should print zero \
                    and go on with the next invoice of the day.";

fn issues(count: u64) -> Vec<Issue> {
    (1..=count).rev().map(|n| Issue::new(n, format!("title {n}"), format!("{n}: {TEXT}"))).collect()
}

/// A repository whose commits have something to say.
fn talkative(place: &Place) -> PathBuf {
    let work = place.path("talkative");
    std::fs::create_dir_all(&work).unwrap();
    git(&work, &["init", "--quiet", "-b", "main"]);
    std::fs::write(work.join("totals.py"), "def total(lines):\n    return sum(lines)\n").unwrap();
    for n in 0..5 {
        std::fs::write(work.join("file"), n.to_string()).unwrap();
        git(&work, &["add", "."]);
        git_as_ada(
            &work,
            &[
                "commit",
                "--quiet",
                "-m",
                &format!("Print totals {n}"),
                "-m",
                TEXT,
                "-m",
                "Signed-off-by: Ada <ada@example.com>",
            ],
        );
    }
    work
}

fn examples(finished: &Finished) -> Vec<StyleExample> {
    let text = zstd::decode_all(finished.style_bytes().as_slice()).unwrap();
    String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn assert_origin(finished: &Finished, origin: StyleOrigin, count: u32) {
    finished.result();
    assert_eq!(finished.manifest().style_origins, BTreeMap::from([(origin, count)]), "{}", finished.stderr);
    assert_eq!(examples(finished).len(), count as usize);
}

fn on_github(run: Snapshot, server: &GitHubServer) -> Snapshot {
    run.flag("--github", "acme/billing").flag("--github-api-url", server.api_url())
}

#[test]
fn the_newest_issues_are_taken_and_what_others_took_first_is_taken_over() {
    let place = Place::new();
    let source = talkative(&place);
    let mut filed = issues(150);
    filed[0].kind = "Bot";
    filed[1].pull_request = true;
    filed[2].body = Some("Please fix.".into());
    let server = GitHubServer::start(false, filed).unwrap();
    let take = |store: &str| on_github(place.snapshot(source.to_str().unwrap(), store), &server).run();
    let first = take("first");
    assert_origin(&first, StyleOrigin::Issue, 100);
    assert_eq!(examples(&first)[0].title.as_deref(), Some("title 147"));
    assert_eq!(examples(&first)[0].body, format!("147: {TEXT}"));
    assert_eq!(take("again").style_bytes(), first.style_bytes());

    // A process that was killed before its manifest leaves the examples; another, later, when there are other issues, keeps to them.
    std::fs::remove_file(place.path("again/snapshot/manifest.json")).unwrap();
    server.set_issues(issues(50));
    let later = take("again");
    assert_eq!((later.style_bytes(), later.manifest_bytes()), (first.style_bytes(), first.manifest_bytes()));
    // What is no such file is replaced.
    std::fs::remove_file(place.path("again/snapshot/manifest.json")).unwrap();
    std::fs::write(place.path("again/snapshot/style.jsonl.zst"), "nonsense").unwrap();
    assert_origin(&take("again"), StyleOrigin::Issue, 50);
}

#[test]
fn without_github_commit_messages_are_taken_however_many_commits_are() {
    let place = Place::new();
    let source = talkative(&place);
    for commits in ["1", "3", "5"] {
        let run = place.snapshot(source.to_str().unwrap(), commits).flag("--commits", commits).run();
        assert_origin(&run, StyleOrigin::CommitMessage, 5);
        let newest = &examples(&run)[0];
        assert_eq!((newest.title.as_deref(), newest.body.as_str()), (Some("Print totals 4"), TEXT));
    }
}

#[test]
fn a_repository_that_says_nothing_gets_the_built_in_examples() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[20, 10, 0], 0);
    assert_origin(&place.snapshot(source.to_str().unwrap(), "store").run(), StyleOrigin::BuiltIn, 6);
}

#[test]
fn no_run_fails_for_want_of_style() {
    let place = Place::new();
    let source = talkative(&place);
    let url = source.to_str().unwrap();
    let always = |fault: Fault| std::iter::repeat_n(fault, 20);
    let faults = [
        Fault::Server(500),
        Fault::Forbidden,
        Fault::RateLimit(3000),
        Fault::Garbage,
        Fault::Slow(Duration::from_mins(1)),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let server = GitHubServer::start(false, issues(10)).unwrap();
        server.fail_next(always(fault.clone()));
        let run = on_github(place.snapshot(url, &format!("fault-{n}")), &server).flag("--github-timeout", "1s").run();
        assert_origin(&run, StyleOrigin::CommitMessage, 5);
        assert!(run.stderr.contains("not all issues could be listed"), "{fault:?}: {}", run.stderr);
    }
    let server = GitHubServer::start(false, issues(2)).unwrap();
    assert_origin(&on_github(place.snapshot(url, "few"), &server).run(), StyleOrigin::CommitMessage, 5);
    let secret = place.secret("empty", &[]);
    let run = on_github(place.snapshot(url, "no-secret"), &server).flag("--github-credentials", &secret).run();
    assert_origin(&run, StyleOrigin::CommitMessage, 5);
    assert!(run.stderr.contains("does not exist or is empty"), "{}", run.stderr);
}

#[test]
fn what_was_listed_before_a_limit_is_used() {
    let place = Place::new();
    let source = talkative(&place);
    let mut filed = issues(150);
    for issue in &mut filed[..60] {
        issue.kind = "Bot";
    }
    let server = GitHubServer::start(false, filed).unwrap();
    server.fail_next([Fault::None, Fault::RateLimit(3000)]);
    let run = on_github(place.snapshot(source.to_str().unwrap(), "store"), &server).run();
    assert_origin(&run, StyleOrigin::Issue, 40);
    assert!(run.stderr.contains("lets us ask again in"), "{}", run.stderr);
}

#[test]
fn a_github_app_clones_and_lists_with_its_installations_token_which_nobody_sees() {
    let place = Place::new();
    repository(&place.path("repositories/acme/billing.git"), &[10, 0], 1000);
    let token = "ghs_planted-installation-token";
    let hub = GitHubServer::start(false, issues(10)).unwrap();
    let app = App::new(4711, 815).unwrap();
    let keys = app.keys();
    let secret = place.secret("app", &keys.each_ref().map(|(key, value)| (*key, value.as_str())));
    hub.require_token(token);
    hub.install(app);
    let access = Access::Basic { username: "x-access-token".into(), password: token.into() };
    let config = GitServerConfig { access, ..GitServerConfig::new(place.path("repositories")) };
    let server = GitServer::start(config).unwrap();
    let take = |store: &str| {
        on_github(place.snapshot(&server.url("acme/billing.git"), store), &hub)
            .flag("--git-credentials", &secret)
            .flag("--github-credentials", &secret)
            .flag("--log-level", "trace")
    };
    let good = take("good").run();
    assert_origin(&good, StyleOrigin::Issue, 10);

    hub.fail_next([Fault::Server(503)]);
    let failed = take("failed").run();
    assert_eq!((failed.code, failed.failure().reason.as_str()), (Some(11), "GitHubUnavailable"));
    // A token that the git server does not know any more, as one that has expired.
    server.set_access(Access::Basic { username: "x-access-token".into(), password: "another".into() });
    let expired = take("expired").run();
    let failure = expired.failure();
    assert_eq!((expired.code, failure.reason.as_str()), (Some(10), "AuthenticationFailed"));
    assert!(failure.message.contains("not expired"), "{}", failure.message);
    assert!(!place.path("expired/snapshot").exists());
    let key = keys[2].1.lines().nth(3).unwrap().to_owned();
    let wrong = place.secret("wrong", &[("appId", "4711"), ("installationId", "815"), ("privateKey", "no key")]);
    let refused = take("wrong").flag("--git-credentials", &wrong).run();
    assert_eq!((refused.code, refused.failure().reason.as_str()), (Some(10), "CredentialsInvalid"));

    for run in [&good, &failed, &expired, &refused] {
        for text in [&run.stdout, &run.stderr, &run.message] {
            assert!(!text.contains("planted-installation") && !text.contains(&key), "{text}");
        }
    }
    for file in [good.manifest_bytes(), good.bundle_bytes(), examples_text(&place.path("good"))] {
        assert!(!String::from_utf8_lossy(&file).contains("planted-installation"));
    }
    assert_eq!(std::fs::read_dir(place.scratch()).unwrap().count(), 0);
}

fn examples_text(store: &Path) -> Vec<u8> {
    zstd::decode_all(std::fs::File::open(store.join("snapshot/style.jsonl.zst")).unwrap()).unwrap()
}

#[test]
fn the_address_of_a_repository_on_github_follows_from_its_name() {
    let place = Place::new();
    // One server for both: the API is below /api/v3, the repository is not there.
    let server = GitHubServer::start(false, issues(10)).unwrap();
    let run = on_github(place.snapshot("unused", "store").without_url(), &server).run();
    let failure = run.failure();
    let expected = server.api_url().replace("/api/v3", "/acme/billing.git");
    assert!(failure.message.contains(&expected), "{}", failure.message);
    let wrong = place.snapshot("/x", "wrong").flag("--github", "acme").run();
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.failure().message.contains("invalid value 'acme'"), "{}", wrong.message);
}

#[test]
fn a_token_that_is_refused_is_a_warning_and_is_not_shown() {
    let place = Place::new();
    let source = talkative(&place);
    let server = GitHubServer::start(false, issues(10)).unwrap();
    server.require_token("the-right-token");
    let secret = place.secret("gh", &[("token", "ghp_planted-but-expired")]);
    let run = on_github(place.snapshot(source.to_str().unwrap(), "store"), &server)
        .flag("--github-credentials", &secret)
        .flag("--log-level", "trace")
        .run();
    assert_origin(&run, StyleOrigin::CommitMessage, 5);
    assert!(run.stderr.contains("Bad credentials") && !run.stderr.contains("planted-but-expired"), "{}", run.stderr);
    assert_eq!(server.requests()[0].authorization.as_deref(), Some("Bearer ghp_planted-but-expired"));
}
