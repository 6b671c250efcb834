//! A real S3-compatible server as the store: the same snapshot as in a folder, also with several processes at once; and authorities of one's own for
//! everything that speaks TLS.

use sera_git_server::{GitServer, GitServerConfig};
use sera_test_servers::{Conduct, GitHubServer, Issue, S3Server};

use crate::support::{Place, Snapshot, git, repository};

fn to_s3(place: &Place, server: &S3Server, url: &str, name: &str) -> Snapshot {
    let keys = server.keys();
    let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let secret = place.secret("s3", &keys);
    place.snapshot(url, name).flag("--store", server.uri("ml/billing/1")).flag("--store-credentials", secret)
}

#[test]
fn a_snapshot_in_s3_is_the_one_in_a_folder_and_is_found_again() {
    let place = Place::new();
    // Large enough for an upload in parts.
    let source = repository(&place.path("source.git"), &[20, 10, 0], 4 << 20);
    let url = source.to_str().unwrap();
    let reference = place.snapshot(url, "reference").run();
    let server = S3Server::start(Conduct::OneAtATime, false).unwrap();
    let taken = to_s3(&place, &server, url, "taken").run();
    assert_eq!(taken.result(), reference.result(), "the manifest's digest too");
    git(&source, &["update-ref", "refs/heads/main", "main~1"]);
    let again = to_s3(&place, &server, url, "again").run();
    assert_eq!(again.result(), reference.result());
    assert!(again.stderr.contains("in the store already"), "{}", again.stderr);
}

#[test]
fn several_processes_at_once_end_with_one_snapshot() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[20, 10, 0], 100_000);
    let server = S3Server::start(Conduct::OneAtATime, false).unwrap();
    let mut runs: Vec<Snapshot> =
        (0..4).map(|n| to_s3(&place, &server, source.to_str().unwrap(), &format!("run-{n}"))).collect();
    let children: Vec<_> = runs.iter_mut().map(Snapshot::spawn).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let results: Vec<_> = runs.iter().zip(outputs).map(|(run, output)| run.finished(output).result()).collect();
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
}

#[test]
fn a_store_that_lets_two_writers_win_is_refused_before_anything_is_fetched() {
    let place = Place::new();
    let server = S3Server::start(Conduct::AllAtOnce, false).unwrap();
    let run = to_s3(&place, &server, "/no/repository/is/looked/at", "run").run();
    let failure = run.failure();
    assert_eq!((run.code, failure.reason.as_str()), (Some(10), "StoreNotConditional"), "{}", run.stderr);
    assert_eq!(failure.field.as_deref(), Some("spec.output.store"));
    assert!(failure.message.contains("If-None-Match"), "{}", failure.message);
}

#[test]
fn one_variable_makes_git_the_store_and_github_trust_an_authority() {
    let place = Place::new();
    repository(&place.path("repositories/acme/billing.git"), &[0], 1000);
    let config = GitServerConfig { tls: true, ..GitServerConfig::new(place.path("repositories")) };
    let (git, s3) = (GitServer::start(config).unwrap(), S3Server::start(Conduct::OneAtATime, true).unwrap());
    let text = "The total of an invoice without lines is printed as minus zero, and the export to the bank then refuses the whole file of that day.";
    let issues = (1..=5).map(|n| Issue::new(n, "title", format!("{n} {text}"))).collect();
    let hub = GitHubServer::start(true, issues).unwrap();
    let authorities = place.path("authorities.pem");
    let bundle = [git.ca_pem(), s3.ca_pem(), hub.ca_pem()].map(Option::unwrap).concat();
    std::fs::write(&authorities, bundle).unwrap();
    let keys = s3.keys();
    let keys: Vec<(&str, &str)> =
        keys.iter().filter(|(key, _)| *key != "ca.crt").map(|(key, value)| (*key, value.as_str())).collect();
    let secret = place.secret("s3", &keys);
    let take = |name: &str| {
        place
            .snapshot(&git.url("acme/billing.git"), name)
            .flag("--store", s3.uri(name))
            .flag("--store-credentials", &secret)
            .flag("--github", "acme/billing")
            .flag("--github-api-url", hub.api_url())
    };
    let trusting = take("trusting").env("SERA_CA_CERTIFICATES", &authorities).run();
    trusting.result();
    assert!(!trusting.stderr.contains("style examples cannot be taken"), "{}", trusting.stderr);
    assert!(hub.requests().iter().any(|request| request.status == 200), "GitHub was asked");

    let stranger = take("stranger").run();
    assert_eq!((stranger.code, stranger.failure().reason.as_str()), (Some(10), "StoreCertificateNotTrusted"));
    let only_git = place.snapshot(&git.url("acme/billing.git"), "folder").env("SERA_CA_CERTIFICATES", &authorities);
    only_git.run().result();
    let none = place.snapshot(&git.url("acme/billing.git"), "none").env("SERA_CA_CERTIFICATES", "").run();
    assert_eq!((none.code, none.failure().reason.as_str()), (Some(10), "CertificateNotTrusted"));
}

#[test]
fn a_variable_that_names_no_certificates_is_an_error_that_names_it_and_the_file() {
    let place = Place::new();
    std::fs::write(place.path("nonsense.pem"), "nonsense").unwrap();
    for (file, words) in
        [("nonsense.pem", "is not a PEM bundle"), ("missing.pem", "must exist and have the key ca.crt")]
    {
        let run =
            place.snapshot("https://127.0.0.1:9/a.git", "store").env("SERA_CA_CERTIFICATES", place.path(file)).run();
        let failure = run.failure();
        assert_eq!((run.code, failure.reason.as_str()), (Some(10), "CaCertificatesInvalid"), "{}", run.stderr);
        assert_eq!(failure.field.as_deref(), Some("spec.pods.default.caSecretRef"));
        for part in ["SERA_CA_CERTIFICATES", file, words] {
            assert!(failure.message.contains(part), "'{part}' is not in: {}", failure.message);
        }
    }
}
