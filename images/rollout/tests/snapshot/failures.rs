//! Everything that can be wrong, made wrong for real: the exit code, the reason, the field and a sentence that helps.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use sera_crds::contract::{FailureClass, Termination};
use sera_git_server::{Access, Behaviour, GitServer, GitServerConfig};

use crate::support::{Finished, Place, Snapshot, file_uri, free_port, git, repository, ssh_key};

const URL: Option<&str> = Some("spec.source.git.url");
const REVISION: Option<&str> = Some("spec.source.git.revision");
const SECRET: Option<&str> = Some("spec.source.git.credentialsSecretRef");
const STORE: Option<&str> = Some("spec.output.store");
const STORE_SECRET: Option<&str> = Some("spec.output.credentialsSecretRef");

/// Asserts how a run failed; `words` must be in its message.
#[track_caller]
fn assert_failed(run: Snapshot, code: i32, reason: &str, field: Option<&str>, words: &str) -> Finished {
    let finished = run.run();
    let failure = finished.failure();
    assert_eq!((finished.code, failure.reason.as_str()), (Some(code), reason), "{}", finished.stderr);
    assert_eq!(failure.field.as_deref(), field, "{}", failure.message);
    assert!(failure.message.contains(words), "'{words}' is not in: {}", failure.message);
    assert!(!failure.message.contains('\n') && failure.message.len() < 600, "not one sentence: {}", failure.message);
    assert!(finished.stderr.contains(reason), "the log does not say it");
    let expected = if code == 10 { FailureClass::Configuration } else { FailureClass::Unavailable };
    assert_eq!(failure.class, expected);
    finished
}

#[test]
fn wrong_addresses() {
    let place = Place::new();
    let refused =
        |url: &str, reason: &str, words: &str| assert_failed(place.snapshot(url, "store"), 10, reason, URL, words);
    refused("ftp://h/x", "InvalidUrl", "is not a git URL");
    refused("ext::sh -c id", "InvalidUrl", "is not a git URL");
    refused("-oProxyCommand=id@h:p", "InvalidUrl", "does not begin with '-'");
    let finished = refused("https://ada:hunter2@git.example/a.git", "InvalidUrl", "git.example");
    assert!(!finished.message.contains("hunter2") && !finished.stderr.contains("hunter2"));
    refused("/nowhere/at/all.git", "NotARepository", "is not a git repository");
    std::fs::create_dir_all(place.path("empty folder")).unwrap();
    refused(place.path("empty folder").to_str().unwrap(), "NotARepository", "check the URL");
    std::fs::write(place.path("file"), "x").unwrap();
    refused(place.path("file").to_str().unwrap(), "NotARepository", "check the URL");
    let empty = place.path("empty.git");
    std::fs::create_dir_all(&empty).unwrap();
    git(&empty, &["init", "--quiet", "--bare"]);
    refused(empty.to_str().unwrap(), "RepositoryEmpty", "push a commit");
    assert!(!place.path("store/snapshot").exists(), "a failed run leaves nothing in the store");
}

#[test]
fn wrong_revisions() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[10, 0], 0);
    git(&source, &["tag", "folder", "main:src"]);
    let refused = |revision: &str, commits: &str, reason: &str, words: &str| {
        let run =
            place.snapshot(source.to_str().unwrap(), "store").flag("--revision", revision).flag("--commits", commits);
        assert_failed(run, 10, reason, REVISION, words)
    };
    for commits in ["1", "3"] {
        refused("mian", commits, "RevisionNotFound", "did you mean 'main'?");
        refused("nothing-like-it", commits, "RevisionNotFound", "its branches are 'main'");
        refused(&"a".repeat(40), commits, "RevisionNotFound", &"a".repeat(40));
        refused("abcdef01", commits, "RevisionNotFound", "abcdef01");
        refused("main~1", commits, "RevisionNotFound", "main~1");
        refused("--upload-pack=id", commits, "RevisionNotFound", "upload-pack");
        refused("folder", commits, "RevisionNotACommit", "is no commit");
    }
    git(&source, &["symbolic-ref", "HEAD", "refs/heads/unborn"]);
    refused("HEAD", "1", "RevisionNotFound", "its branches are 'main'");
}

#[test]
fn hosts_that_cannot_be_reached() {
    let place = Place::new();
    let nobody = free_port();
    let key = ssh_key(&place.path("client"), "");
    let unavailable = |url: &str, name: &str, reason: &str, field, words: &str| {
        let key = [("ssh-privatekey", key.as_str()), ("known_hosts", "h ssh-ed25519 AAAA")];
        let run = place.snapshot(url, name);
        let run = if url.starts_with("ssh") { run.flag("--git-credentials", place.secret("key", &key)) } else { run };
        assert_failed(run, 11, reason, field, words)
    };
    for scheme in ["https", "git", "ssh"] {
        unavailable(
            &format!("{scheme}://no-such-host.invalid/a.git"),
            "a",
            "HostNotFound",
            URL,
            "no-such-host.invalid",
        );
        unavailable(&format!("{scheme}://127.0.0.1:{nobody}/a.git"), "b", "HostUnreachable", None, "cannot be reached");
    }
}

#[test]
fn servers_that_fail_or_fall_silent() {
    let place = Place::new();
    repository(&place.path("repositories/a.git"), &[0], 0);
    let server = GitServer::start(GitServerConfig::new(place.path("repositories"))).unwrap();
    let failed = |behaviour, code, reason: &str, field, words: &str| {
        server.set_behaviour(behaviour);
        let begun = Instant::now();
        assert_failed(
            place.snapshot(&server.url("a.git"), "store").flag("--silence", "1s"),
            code,
            reason,
            field,
            words,
        );
        assert!(begun.elapsed() < Duration::from_secs(15), "{behaviour:?} took {:?}", begun.elapsed());
    };
    failed(Behaviour::Answer(500), 11, "ServerUnavailable", None, "500");
    failed(Behaviour::Answer(503), 11, "ServerUnavailable", None, "503");
    failed(Behaviour::Answer(429), 11, "ServerUnavailable", None, "429");
    failed(Behaviour::Answer(403), 10, "AccessDenied", SECRET, "403");
    failed(Behaviour::Answer(404), 10, "RepositoryNotFound", URL, "there is no repository");
    failed(Behaviour::Drop, 11, "HostUnreachable", None, "cannot be reached");
    failed(Behaviour::Hang, 11, "HostUnreachable", None, "too slow");
    failed(Behaviour::Answer(200), 10, "RepositoryEmpty", URL, "is empty");

    // git's own protocol has no limits of its own: ours end it.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("git://{}/a.git", silent.local_addr().unwrap());
    assert_failed(place.snapshot(&url, "store").flag("--silence", "1s"), 11, "HostSilent", None, "has not answered");
    server.set_behaviour(Behaviour::Hang);
    let run = place.snapshot(&server.url("a.git"), "store").flag("--timeout", "1s");
    assert_failed(run, 11, "TimedOut", None, "allow more with --timeout");
}

#[test]
fn a_web_site_is_no_repository() {
    let place = Place::new();
    let site = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/a.git", site.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in site.incoming().flatten() {
            let _ = connection.read(&mut [0; 4096]);
            let page = "<html>\n<body>Welcome</body>\n</html>\n";
            let _ = write!(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
                page.len()
            );
        }
    });
    assert_failed(place.snapshot(&url, "store"), 10, "NotARepository", URL, "is not a git repository");
}

#[test]
fn wrong_credentials() {
    let place = Place::new();
    repository(&place.path("repositories/a.git"), &[0], 0);
    let access = Access::Basic { username: "ada".into(), password: "right-password".into() };
    let server =
        GitServer::start(GitServerConfig { tls: true, access, ..GitServerConfig::new(place.path("repositories")) })
            .unwrap();
    let url = server.url("a.git");
    let ca = server.ca_pem().unwrap();
    let refused = |keys: &[(&str, &str)], reason: &str, words: &str| {
        let secret = place.secret(&format!("secret-{reason}-{}", keys.len()), keys);
        let run = place.snapshot(&url, "store").flag("--git-credentials", &secret);
        assert_failed(run, 10, reason, SECRET, words)
    };
    refused(&[], "CredentialsMissing", "does not exist or is empty");
    refused(&[("ssh-privatekey", "k")], "CredentialsInvalid", "username and password, or token");
    refused(&[("username", "ada"), ("password", "right-password")], "CertificateNotTrusted", "ca.crt");
    refused(
        &[("username", "ada"), ("password", "wrong-password"), ("ca.crt", ca)],
        "AuthenticationFailed",
        "not expired",
    );
    refused(&[("token", "a\nb"), ("ca.crt", ca)], "CredentialsInvalid", "line break");
    refused(&[("ca.crt", ca)], "CredentialsMissing", "name a Secret");
    let named = place
        .snapshot(&url, "store")
        .flag("--git-credentials", place.path("missing"))
        .flag("--git-credentials-field", "spec.source.github.credentialsSecretRef");
    assert_failed(named, 10, "CredentialsMissing", Some("spec.source.github.credentialsSecretRef"), "does not exist");
}

#[test]
fn stores_that_cannot_be_written() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[0], 0);
    let to = |uri: &str| place.snapshot(source.to_str().unwrap(), "store").flag("--store", uri);
    let refused = |run: Snapshot, reason: &str, field, words: &str| assert_failed(run, 10, reason, field, words);
    refused(to("ftp://x/y"), "InvalidStore", STORE, "no known kind");
    refused(to("pvc://claim/path"), "InvalidStore", STORE, "mounted by the operator");
    refused(to("/plain/path"), "InvalidStore", STORE, "file:///");
    refused(to("file:///proc/nothing"), "StoreNotWritable", STORE, "cannot be written");
    std::fs::write(place.path("file"), "").unwrap();
    refused(to(&file_uri(&place.path("file/below"))), "StoreNotWritable", STORE, "cannot be written");
    let empty = place.secret("empty", &[]);
    refused(
        to("s3://bucket/x").flag("--store-credentials", &empty),
        "StoreCredentialsMissing",
        STORE_SECRET,
        "AWS_ACCESS_KEY_ID",
    );
    let nobody = free_port();
    let keys = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "planted-store-secret"),
        ("AWS_REGION", "eu"),
        ("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{nobody}")),
    ];
    let secret = place.secret("s3", &keys);
    let run = to("s3://bucket/x").flag("--store-credentials", &secret).flag("--timeout", "90s");
    let finished = assert_failed(run, 11, "StoreUnavailable", None, "s3://bucket/x");
    assert!(!finished.stderr.contains("planted-store-secret"));
}

#[test]
fn a_store_or_scratch_space_that_is_full() {
    if !Command::new("unshare")
        .args(["--map-root-user", "--mount", "true"])
        .status()
        .is_ok_and(|status| status.success())
    {
        assert!(
            std::env::var_os("CI").is_none(),
            "a small disk cannot be mounted here: allow user namespaces, or run as root"
        );
        eprintln!("left out: a small disk cannot be mounted here");
        return;
    }
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[0], 200_000);
    let on_small_disk = |folder: &str| {
        let small = place.path(folder);
        std::fs::create_dir_all(&small).unwrap();
        let script = "mount -t tmpfs -o size=64k none \"$0\" && exec \"$@\"";
        let arguments = ["--map-root-user", "--mount", "sh", "-c", script, small.to_str().unwrap()];
        place.snapshot(source.to_str().unwrap(), "store").wrapped("unshare", &arguments)
    };
    assert_failed(on_small_disk("store"), 11, "StoreFull", STORE, "is full");
    assert_failed(on_small_disk("scratch"), 11, "ScratchFull", None, "the scratch space is full");
}

#[test]
fn references_with_names_that_are_no_text_do_no_harm() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[0], 0);
    let id = git(&source, &["rev-parse", "main"]);
    let mut packed = format!("# pack-refs with: peeled fully-peeled sorted\n{id} refs/heads/caf").into_bytes();
    packed.extend_from_slice(b"\xe9\n");
    std::fs::write(source.join("packed-refs"), packed).unwrap();
    place.snapshot(source.to_str().unwrap(), "store").run().result();
    let run = place.snapshot(source.to_str().unwrap(), "other").flag("--revision", "caf\u{e9}");
    assert_failed(run, 10, "RevisionNotFound", REVISION, "did you mean");
}

#[test]
fn a_machine_without_git_says_so() {
    let place = Place::new();
    let finished = place.snapshot("/source.git", "store").env("PATH", "/nowhere").run();
    let failure = finished.failure();
    assert_eq!((finished.code, failure.reason.as_str()), (Some(1), "GitFailed"));
    assert!(failure.message.contains("install git"), "{}", failure.message);
}

#[test]
fn an_attack_in_the_objects_is_refused() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[0], 0);
    let blob = git(&source, &["rev-parse", "main:src/lib.rs"]);
    let tree = place.path("tree");
    std::fs::write(&tree, format!("100644 blob {blob}\t.git\n")).unwrap();
    let script = format!("git mktree <'{}'", tree.display().to_string().replace('\'', r"'\''"));
    let made = Command::new("sh").args(["-c", &script]).current_dir(&source).output().unwrap();
    let tree = String::from_utf8(made.stdout).unwrap();
    let commit = git(&source, &["-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-m", "x", tree.trim()]);
    git(&source, &["update-ref", "refs/heads/main", &commit]);
    assert_failed(place.snapshot(source.to_str().unwrap(), "store"), 10, "RepositoryMalformed", URL, "hasDotgit");
}

#[test]
fn a_wrong_command_line_is_told_in_the_termination_message_too() {
    let place = Place::new();
    for (flag, value, words) in [
        ("--commits", "0", "invalid value '0'"),
        ("--commits", "65", "1..=64"),
        ("--lookback-days", "36501", "0..=36500"),
        ("--timeout", "soon", "is not a timeout"),
        ("--log-level", "noisy", "noisy"),
        ("--colour", "blue", "--colour"),
    ] {
        let finished = place.snapshot("/source.git", "store").flag(flag, value).run();
        let failure = finished.failure();
        assert_eq!((finished.code, failure.reason.as_str()), (Some(2), "InvalidArguments"));
        assert!(failure.message.contains(words), "'{words}' is not in: {}", failure.message);
        assert!(finished.stderr.contains("--help"), "{}", finished.stderr);
    }
    let bare = Command::new(env!("CARGO_BIN_EXE_sera-rollout")).arg("snapshot").output().unwrap();
    assert_eq!(bare.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bare.stderr).contains("--url"));
}

#[test]
fn help_has_examples_and_exit_codes_and_goes_to_standard_output() {
    let help = Command::new(env!("CARGO_BIN_EXE_sera-rollout")).args(["snapshot", "--help"]).output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert_eq!(help.status.code(), Some(0));
    for words in ["Examples:", "Exit codes:", "143", "ssh-privatekey", "known_hosts", "snapshot/manifest.json"] {
        assert!(text.contains(words), "'{words}' is not in the help");
    }
}

#[test]
fn no_secret_gets_out_whatever_happens() {
    let place = Place::new();
    repository(&place.path("repositories/a.git"), &[10, 0], 1000);
    let planted = "pl4nted/s3cret %& value";
    let access = Access::Basic { username: "ada".into(), password: planted.into() };
    let server =
        GitServer::start(GitServerConfig { access, ..GitServerConfig::new(place.path("repositories")) }).unwrap();
    let secret = place.secret("secret", &[("username", "ada"), ("password", planted)]);
    let run = |store: &str| {
        place.snapshot(&server.url("a.git"), store).flag("--git-credentials", &secret).flag("--log-level", "trace")
    };
    let mut runs = vec![run("good").run()];
    runs[0].result();
    server.set_access(Access::Basic { username: "ada".into(), password: "changed".into() });
    runs.push(run("refused").run());
    server.set_behaviour(Behaviour::Answer(500));
    runs.push(run("failed").run());
    assert_eq!(runs.iter().map(|run| run.code).collect::<Vec<_>>(), [Some(0), Some(10), Some(11)]);
    for run in &runs {
        for text in [&run.stdout, &run.stderr, &run.message] {
            for spelling in ["pl4nted", "s3cret", "cGw0bnRlZ"] {
                assert!(!text.contains(spelling), "{spelling} is in {text}");
            }
        }
        Termination::parse(&run.message).unwrap();
    }
    for file in [runs[0].manifest_bytes(), runs[0].bundle_bytes()] {
        assert!(!String::from_utf8_lossy(&file).contains("pl4nted"));
    }
    assert_eq!(std::fs::read_dir(place.scratch()).unwrap().count(), 0, "scratch folders are gone");
}
