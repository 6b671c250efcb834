//! Every way to a repository gives the same snapshot: folders, HTTP, HTTPS, ssh and git's own protocol, from servers that can much or little.

use std::path::Path;
use std::process::Command;

use sera_git_server::{Access, Behaviour, GitServer, GitServerConfig};
use tempfile::TempDir;

use crate::support::{Daemon, Finished, Place, Snapshot, await_port, file_uri, free_port, git, repository, ssh_key};

/// A repository of a few commits under `repositories/acme/billing.git`, and the snapshot of it that was taken from its folder.
fn reference() -> (Place, Finished) {
    let place = Place::new();
    let days: Vec<i64> = (0..30).rev().collect();
    let source = repository(&place.path("repositories/acme/billing.git"), &days, 5000);
    let finished = place.snapshot(source.to_str().unwrap(), "reference").run();
    finished.result();
    (place, finished)
}

fn server(place: &Place, change: impl FnOnce(&mut GitServerConfig)) -> GitServer {
    let mut config = GitServerConfig::new(place.path("repositories"));
    change(&mut config);
    GitServer::start(config).unwrap()
}

fn ada(password: &str) -> Access {
    Access::Basic { username: "ada".into(), password: password.into() }
}

/// Asserts that a run gives the commits and the bundle of the reference.
fn assert_same(run: Snapshot, reference: &Finished) -> Finished {
    let finished = run.run();
    finished.result();
    assert_eq!(finished.manifest().commits, reference.manifest().commits);
    assert_eq!(finished.bundle_bytes(), reference.bundle_bytes());
    finished
}

#[test]
fn http_servers_of_any_ability_give_the_same_bundle() {
    let (place, reference) = reference();
    for (n, (partial_clone, protocol_v2)) in
        [(true, true), (false, true), (true, false), (false, false)].into_iter().enumerate()
    {
        let server = server(&place, |config| {
            config.partial_clone = partial_clone;
            config.protocol_v2 = protocol_v2;
        });
        assert_same(place.snapshot(&server.url("acme/billing.git"), &format!("store-{n}")), &reference);
        let single =
            place.snapshot(&server.url("acme/billing.git"), &format!("single-{n}")).flag("--commits", "1").run();
        single.result();
        assert_eq!(single.manifest().commits[0], reference.manifest().commits[0]);
        let old = reference.manifest().commits[2].original.clone();
        let pinned = place
            .snapshot(&server.url("acme/billing.git"), &format!("pinned-{n}"))
            .flag("--revision", &old)
            .flag("--commits", "1")
            .run();
        pinned.result();
        assert_eq!(pinned.manifest().commits[0].original, old, "partial {partial_clone}, v2 {protocol_v2}");
    }
}

#[test]
fn a_plain_web_server_of_files_will_do() {
    let (place, reference) = reference();
    let source = place.path("repositories/acme/billing.git");
    git(&source, &["update-server-info"]);
    let port = free_port();
    let mut server = Command::new("python3");
    server
        .args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string(), "--directory"])
        .arg(place.path("repositories"));
    let _server = Daemon::start(&mut server);
    await_port(port);
    assert_same(place.snapshot(&format!("http://127.0.0.1:{port}/acme/billing.git"), "store"), &reference);
}

#[test]
fn https_with_a_password_and_a_ca_of_ones_own() {
    let (place, reference) = reference();
    let server = server(&place, |config| {
        config.tls = true;
        config.access = ada("c0rrect h/rse%");
    });
    let keys = [("username", "ada"), ("password", "c0rrect h/rse%\n"), ("ca.crt", server.ca_pem().unwrap())];
    let secret = place.secret("git", &keys);
    assert_same(
        place.snapshot(&server.url("acme/billing.git"), "store").flag("--git-credentials", &secret),
        &reference,
    );
    let user_in_url = server.url("acme/billing.git").replace("https://", "https://ada@");
    let keys = [("token", "c0rrect h/rse%"), ("ca.crt", server.ca_pem().unwrap())];
    let secret = place.secret("token", &keys);
    assert_same(place.snapshot(&user_in_url, "token-store").flag("--git-credentials", &secret), &reference);
}

#[test]
fn a_shallow_clone_and_a_working_tree_are_repositories_too() {
    let (place, reference) = reference();
    let source = place.path("repositories/acme/billing.git");
    git(&place.path(""), &["clone", "--quiet", source.to_str().unwrap(), "tree"]);
    assert_same(place.snapshot(place.path("tree").to_str().unwrap(), "tree-store"), &reference);
    let url = file_uri(&source);
    git(&place.path(""), &["clone", "--quiet", "--depth", "3", &url, "shallow"]);
    let finished = place.snapshot(place.path("shallow").to_str().unwrap(), "shallow-store").run();
    finished.result();
    let commits = finished.manifest().commits;
    assert_eq!((commits.len(), &commits[0]), (3, &reference.manifest().commits[0]), "what is there is taken");
}

#[test]
fn gits_own_protocol() {
    let (place, reference) = reference();
    let port = free_port();
    let mut daemon = Command::new("git");
    daemon
        .args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")])
        .arg(format!("--base-path={}", place.path("repositories").display()))
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let _daemon = Daemon::start(&mut daemon);
    await_port(port);
    assert_same(place.snapshot(&format!("git://127.0.0.1:{port}/acme/billing.git"), "store"), &reference);
    let missing = place.snapshot(&format!("git://127.0.0.1:{port}/acme/other.git"), "missing").run();
    assert_eq!((missing.code, missing.failure().reason.as_str()), (Some(10), "RepositoryNotFound"));
}

#[test]
fn ssh_with_a_key_and_the_hosts_own_and_nothing_less() {
    let (place, reference) = reference();
    let ssh = SshServer::start(&place);
    let source = place.path("repositories/acme/billing.git");
    // A link without what ssh URLs cannot carry.
    let plain = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(source, plain.path().join("billing.git")).unwrap();
    let url = format!("ssh://{}@127.0.0.1:{}{}/billing.git", ssh.user, ssh.port, plain.path().display());
    let key = std::fs::read_to_string(place.path("ssh/client")).unwrap();
    let good = place.secret("good", &[("ssh-privatekey", key.trim_end()), ("known_hosts", &ssh.known_hosts)]);
    assert_same(place.snapshot(&url, "store").flag("--git-credentials", &good), &reference);

    let stranger = ssh_key(&place.path("ssh/stranger"), "");
    let locked = ssh_key(&place.path("ssh/locked"), "a passphrase");
    let other_host =
        ssh.known_hosts.replace(&ssh.host_key, &std::fs::read_to_string(place.path("ssh/stranger.pub")).unwrap());
    let refused: [(&str, &str, &str, &str); 6] = [
        ("unknown host", &key, "example.com ssh-ed25519 AAAA", "HostKeyUnknown"),
        ("changed host", &key, &other_host, "HostKeyChanged"),
        ("stranger", &stranger, &ssh.known_hosts, "AuthenticationFailed"),
        ("locked", &locked, &ssh.known_hosts, "CredentialsInvalid"),
        ("nonsense", "nonsense", &ssh.known_hosts, "CredentialsInvalid"),
        ("no known_hosts", &key, "", "CredentialsInvalid"),
    ];
    for (name, key, known_hosts, reason) in refused {
        let secret = place.secret(name, &[("ssh-privatekey", key), ("known_hosts", known_hosts)]);
        let finished = place.snapshot(&url, name).flag("--git-credentials", &secret).run();
        let failure = finished.failure();
        assert_eq!((finished.code, failure.reason.as_str()), (Some(10), reason), "{name}: {}", finished.stderr);
        assert_eq!(failure.field.as_deref(), Some("spec.source.git.credentialsSecretRef"), "{name}");
    }
    let missing = place.snapshot(&url.replace("billing", "other"), "missing").flag("--git-credentials", &good).run();
    assert_eq!((missing.code, missing.failure().reason.as_str()), (Some(10), "RepositoryNotFound"));
    let bare = place.snapshot(&url, "bare").run();
    assert_eq!((bare.code, bare.failure().reason.as_str()), (Some(10), "CredentialsMissing"));
}

/// A real sshd on a loopback port, for this user and one key.
struct SshServer {
    _daemon: Daemon,
    _folder: TempDir,
    port: u16,
    user: String,
    host_key: String,
    known_hosts: String,
}

impl SshServer {
    fn start(place: &Place) -> Self {
        let folder = place.path("ssh");
        std::fs::create_dir_all(&folder).unwrap();
        ssh_key(&folder.join("host"), "");
        ssh_key(&folder.join("client"), "");
        // sshd splits its configuration at blanks and quotes: it gets a folder without any.
        let plain = tempfile::tempdir().unwrap();
        for file in ["host", "client.pub"] {
            std::fs::copy(folder.join(file), plain.path().join(file)).unwrap();
        }
        let port = free_port();
        let here = plain.path().display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {here}/host\nAuthorizedKeysFile {here}/client.pub\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nAcceptEnv GIT_PROTOCOL\n"
        );
        std::fs::write(plain.path().join("config"), config).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        install_sshd();
        let daemon = Daemon::start(Command::new("/usr/sbin/sshd").args(["-D", "-f"]).arg(plain.path().join("config")));
        await_port(port);
        let host_key = std::fs::read_to_string(folder.join("host.pub")).unwrap();
        Self {
            _daemon: daemon,
            _folder: plain,
            port,
            user: nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name,
            known_hosts: format!("[127.0.0.1]:{port} {host_key}"),
            host_key,
        }
    }
}

/// As every test of the project that misses a program: root on Debian gets it, everybody else is told the line to run.
fn install_sshd() {
    if Path::new("/usr/sbin/sshd").exists() {
        return;
    }
    let line = ["install", "--yes", "--quiet", "--no-install-recommends", "openssh-server"];
    let apt = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .is_ok_and(|it| it.status.success())
    };
    let installed = nix::unistd::geteuid().is_root() && apt(&["update", "--quiet"]) && apt(&line);
    assert!(installed, "sshd is needed: run `sudo apt-get {}`", line.join(" "));
}

#[test]
fn what_fails_for_a_moment_is_tried_again() {
    let (place, reference) = reference();
    let server = server(&place, |_| {});
    server.set_behaviour(Behaviour::Answer(503));
    let url = server.url("acme/billing.git");
    let mut run = place.snapshot(&url, "store").flag("--retries", "6");
    let mut child = run.spawn();
    while server.requests() < 2 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    server.set_behaviour(Behaviour::Serve);
    let finished = run.finished(child.wait_with_output().unwrap());
    finished.result();
    assert_eq!(finished.bundle_bytes(), reference.bundle_bytes());
    assert!(finished.stderr.contains("trying again"), "{}", finished.stderr);
}
