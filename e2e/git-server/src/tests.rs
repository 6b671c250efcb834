//! The server, met by the real git.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{Access, Behaviour, GitServer, GitServerConfig};

/// Runs git in `folder`, away from whatever configuration this machine has.
fn git(folder: &Path, arguments: &[&str], extra: &[(&str, &str)]) -> Output {
    Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .envs(["AUTHOR", "COMMITTER"].map(|role| (format!("GIT_{role}_NAME"), "Ada")))
        .envs(["AUTHOR", "COMMITTER"].map(|role| (format!("GIT_{role}_EMAIL"), "ada@example.com")))
        .envs(extra.iter().copied())
        .output()
        .unwrap()
}

/// A folder with one bare repository, `acme/billing.git`, of one commit.
fn repositories() -> TempDir {
    let root = TempDir::new().unwrap();
    let work = root.path().join("work");
    for arguments in [
        &["init", "--quiet", "-b", "main", "work"][..],
        &["-C", "work", "commit", "--quiet", "--allow-empty", "-m", "first"],
        &["clone", "--quiet", "--bare", "work", "acme/billing.git"],
    ] {
        let output = git(root.path(), arguments, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::remove_dir_all(work).unwrap();
    root
}

/// What git says of the server's only repository: its references, or the error.
fn list(server: &GitServer, url: &str, extra: &[(&str, &str)]) -> Result<String, String> {
    let output = git(Path::new("/"), &["ls-remote", url], extra);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(server.requests() > 0 || !output.status.success(), "an answer that the server never gave");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn a_repository_is_cloned_over_http_and_a_missing_one_is_not_found() {
    let root = repositories();
    let server = GitServer::start(GitServerConfig::new(root.path())).unwrap();
    let output = git(root.path(), &["clone", &server.url("acme/billing.git"), "clone"], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(root.path().join("clone/.git/HEAD").exists());
    let error = list(&server, &server.url("acme/other.git"), &[]).unwrap_err();
    assert!(error.contains("not found"), "{error}");
}

#[test]
fn https_is_trusted_with_the_servers_ca_and_not_without() {
    let root = repositories();
    let server = GitServer::start(GitServerConfig { tls: true, ..GitServerConfig::new(root.path()) }).unwrap();
    let url = server.url("acme/billing.git");
    assert!(url.starts_with("https://"));
    let ca = root.path().join("ca.crt");
    std::fs::write(&ca, server.ca_pem().unwrap()).unwrap();
    let listed = list(&server, &url, &[("GIT_SSL_CAINFO", ca.to_str().unwrap())]).unwrap();
    assert!(listed.contains("refs/heads/main"), "{listed}");
    assert!(list(&server, &url, &[]).unwrap_err().contains("certificate"));
}

#[test]
fn a_password_is_asked_for_and_can_be_changed_while_it_runs() {
    let root = repositories();
    let access = |password: &str| Access::Basic { username: "ada".into(), password: password.into() };
    let server =
        GitServer::start(GitServerConfig { access: access("first"), ..GitServerConfig::new(root.path()) }).unwrap();
    let with = |password: &str| server.url("acme/billing.git").replace("http://", &format!("http://ada:{password}@"));
    list(&server, &with("first"), &[]).unwrap();
    assert!(list(&server, &server.url("acme/billing.git"), &[]).unwrap_err().contains("terminal prompts disabled"));
    server.set_access(access("second"));
    assert!(list(&server, &with("first"), &[]).unwrap_err().contains("Authentication failed"));
    list(&server, &with("second"), &[]).unwrap();
}

#[test]
fn it_fails_as_it_is_told_and_recovers() {
    let root = repositories();
    let server = GitServer::start(GitServerConfig::new(root.path())).unwrap();
    let url = server.url("acme/billing.git");
    server.set_behaviour(Behaviour::Answer(503));
    assert!(list(&server, &url, &[]).unwrap_err().contains("503"));
    server.set_behaviour(Behaviour::Drop);
    assert!(list(&server, &url, &[]).unwrap_err().contains("unable to access"));
    server.set_behaviour(Behaviour::Hang);
    let impatient = [("GIT_HTTP_LOW_SPEED_LIMIT", "1"), ("GIT_HTTP_LOW_SPEED_TIME", "1")];
    assert!(list(&server, &url, &impatient).unwrap_err().contains("unable to access"));
    server.set_behaviour(Behaviour::Serve);
    list(&server, &url, &[]).unwrap();
}

#[test]
fn a_server_of_the_older_protocol_gives_only_what_a_reference_points_to() {
    let root = repositories();
    let repository = root.path().join("acme/billing.git");
    let amend = [
        &["symbolic-ref", "HEAD", "refs/heads/other"][..],
        &["update-ref", "-d", "refs/heads/main"],
        &["update-ref", "refs/heads/other", "hidden"],
    ];
    let hidden = String::from_utf8(git(&repository, &["rev-parse", "HEAD"], &[]).stdout).unwrap();
    let tree = String::from_utf8(git(&repository, &["rev-parse", "HEAD^{tree}"], &[]).stdout).unwrap();
    let other = String::from_utf8(git(&repository, &["commit-tree", "-m", "other", tree.trim()], &[]).stdout).unwrap();
    for arguments in amend {
        let arguments: Vec<&str> =
            arguments.iter().map(|&word| if word == "hidden" { other.trim() } else { word }).collect();
        assert!(git(&repository, &arguments, &[]).status.success());
    }
    let fetch = |protocol_v2| {
        let server = GitServer::start(GitServerConfig { protocol_v2, ..GitServerConfig::new(root.path()) }).unwrap();
        let clone = TempDir::new().unwrap();
        git(clone.path(), &["init", "--quiet", "--bare"], &[]);
        git(clone.path(), &["fetch", &server.url("acme/billing.git"), hidden.trim()], &[]).status.success()
    };
    assert!(fetch(true));
    assert!(!fetch(false));
}
