//! The program as it is started by people and by the chart: its help, what it says of bad input, and how it ends. What it does
//! in a cluster is tested in `e2e`.

// Clippy lets tests unwrap, and does not see that their helpers in a file of tests alone are such.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

const IMAGE: &str = "--rollout-image=ghcr.io/acme/sera-rollout:1";

/// The program with these flags, knowing of no cluster and of none of this machine's settings.
fn operator(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sera-operator"));
    command.env_clear().args(flags);
    command
}

fn output(flags: &[&str]) -> (Output, String) {
    let output = operator(flags).output().unwrap();
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    (output, told)
}

/// A kubeconfig for a cluster at `address`, without credentials.
fn kubeconfig(directory: &TempDir, address: &str) -> String {
    let path = directory.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: \"http://{address}\"}}}}]\n\
         users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Ends the program when a test fails half way.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already when the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

#[test]
fn help_tells_every_flag_with_its_default_and_its_variable() {
    let (output, _) = output(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "--namespaces",
        "--run-defaults",
        "--rollout-image",
        "--sandbox-image",
        "--environment-image",
        "--teacher-image",
        "--trainer-image",
        "--trainer-gpus",
        "--concurrency",
        "--qps",
        "--burst",
        "--leader-elect",
        "--lease-name",
        "--lease-namespace",
        "--listen",
        "--dashboard-gauges",
        "--log-format",
        "--log-level",
    ] {
        assert!(help.contains(flag), "{flag} is not in\n{help}");
        let variable = format!("[env: SERA_{}=", flag.trim_start_matches("--").replace('-', "_").to_uppercase());
        assert!(help.contains(&variable), "{variable} is not in\n{help}");
    }
    for flag in ["--otlp-endpoint", "--otlp-traces-endpoint"] {
        let variable =
            format!("[env: {}=", flag.replacen("--otlp", "OTEL_EXPORTER_OTLP", 1).replace('-', "_").to_uppercase());
        assert!(help.contains(flag) && help.contains(&variable), "{variable} is not in\n{help}");
    }
    for word in ["sera-operator-crds", "/readyz", "[default: 0.0.0.0:8080]", "SIGTERM"] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}

#[test]
fn the_version_is_the_crate_s() {
    let (output, _) = output(&["--version"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), concat!("sera-operator ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn bad_flags_are_refused_by_name_with_what_is_allowed() {
    for (flags, words) in [
        (&[][..], &["--rollout-image"][..]),
        (&[IMAGE, "--namespaces=ml,No_Such"], &["No_Such", "--namespaces", "lower-case"]),
        (&[IMAGE, "--concurrency=0"], &["--concurrency", "non-zero"]),
        (&[IMAGE, "--listen=8080"], &["--listen", "socket address"]),
        (&[IMAGE, "--log-level=loud,kube=x"], &["--log-level", "error, warn, info, debug or trace"]),
        (&[IMAGE, "--lease-duration=0s"], &["--lease-duration", "at least one second"]),
        (&["--rollout-image=Not An Image"], &["--rollout-image", "registry/repository"]),
        (&[IMAGE, "--namespace=ml"], &["--namespace", "--namespaces"]),
        (&[IMAGE, "--otlp-endpoint=collector:4318"], &["--otlp-endpoint", "http://otel-collector.monitoring:4318"]),
    ] {
        let (output, told) = output(flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {told}");
        for word in words {
            assert!(told.contains(word), "{flags:?}: {word} is not in {told}");
        }
    }
}

#[test]
fn flags_that_contradict_each_other_are_told_in_one_line() {
    for (flag, word) in [("--qps=0", "--qps"), ("--lease-renew-deadline=20s", "--lease-renew-deadline")] {
        let (output, told) = output(&[IMAGE, flag, "--log-format=text"]);
        assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
        assert!(told.contains(word), "{told}");
    }
}

#[test]
fn the_self_test_has_a_help_of_its_own_names_what_it_refuses_and_ends_with_the_cause() {
    let (helped, _) = output(&["self-test", "--help"]);
    let help = String::from_utf8(helped.stdout).unwrap();
    assert!(helped.status.success());
    for word in ["helm test", "--store", "--own-claim", "--landlock", "[default: 4m]", "[env: SERA_TEST_TIMEOUT="] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
    assert!(!help.contains("--rollout-image"), "what the controller needs is not asked of a test:\n{help}");
    for (flag, words) in [
        ("--timeout=soon", &["--timeout", "soon"][..]),
        ("--store=ftp://acme", &["--store", "s3://bucket/prefix"]),
        ("--storage-class=fast", &["--own-claim"]),
        ("--stor=s3://acme/sera", &["--stor", "--store"]),
    ] {
        let (output, told) = output(&["self-test", flag]);
        assert_eq!(output.status.code(), Some(2), "{flag}: {told}");
        for word in words {
            assert!(told.contains(word), "{flag}: {word} is not in {told}");
        }
    }
    let (ended, _) = output(&["self-test"]);
    let told = String::from_utf8(ended.stdout).unwrap();
    let last = told.lines().last().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(last.starts_with("failed: ") && last.contains("KUBECONFIG"), "{told}");
}

#[test]
fn a_collector_that_nobody_vouches_for_is_told_in_one_line() {
    let output = operator(&[IMAGE, "--otlp-endpoint=https://127.0.0.1:4318", "--log-format=text"])
        .env("SSL_CERT_FILE", "/no/such/file")
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.contains("certificate authorities") && told.contains("SSL_CERT_FILE"), "{told}");
}

#[test]
fn bad_run_defaults_name_file_and_field() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("run-defaults.yaml");
    fs::write(&file, "queueName: gpu\nstore: ftp://acme\n").unwrap();
    let flag = format!("--run-defaults={}", file.display());
    let (output, told) = output(&[IMAGE, &flag]);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for word in [file.to_str().unwrap(), "store: 'ftp://acme' is not a store", "s3://bucket/prefix", "runDefaults"] {
        assert!(told.contains(word), "{word} is not in {told}");
    }
}

#[test]
fn without_a_cluster_it_says_how_to_name_one() {
    let (output, told) = output(&[IMAGE, "--log-format=text", "--listen=127.0.0.1:0"]);
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.contains("KUBECONFIG") && told.contains("service account"), "{told}");
}

#[test]
fn an_address_that_is_taken_is_told_with_the_flag_to_change_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = TempDir::new().unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let output = operator(&[IMAGE, "--log-format=text", &listen])
        .env("KUBECONFIG", kubeconfig(&directory, "127.0.0.1:1"))
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.contains("cannot listen on 127.0.0.1") && told.contains("--listen"), "{told}");
}

#[test]
fn with_an_api_server_out_of_reach_it_lives_unready_says_why_once_and_ends_orderly() {
    let (directory, port, nobody) = (TempDir::new().unwrap(), free_port(), format!("127.0.0.1:{}", free_port()));
    let mut running = Running(
        operator(&[IMAGE, "--log-format=json", &format!("--listen=127.0.0.1:{port}")])
            .env("KUBECONFIG", kubeconfig(&directory, &nobody))
            // Nobody is there either, and nobody asks for it.
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{nobody}"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.find(|line| line.contains("cannot reach")).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(parsed["level"], "ERROR");
    let message = parsed["message"].as_str().unwrap();
    for word in [nobody.as_str(), "refused", "check that it is up", "trying again"] {
        assert!(message.contains(word), "{word} is not in {message}");
    }

    assert!(get(port, "/healthz").starts_with("HTTP/1.1 200"));
    let ready = get(port, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("the API server has not answered yet"), "{ready}");
    std::thread::sleep(Duration::from_secs(5));
    let metrics = get(port, "/metrics");
    assert!(
        metrics.contains(&format!(r#"rest_client_requests_total{{code="<error>",host="{nobody}",method="GET"}}"#)),
        "{metrics}"
    );

    let asked = Instant::now();
    running.signal(Signal::SIGTERM);
    let status = running.0.wait().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0));
    let rest: Vec<_> = lines.collect();
    assert!(!rest.iter().any(|line| line.contains("cannot reach")), "{rest:#?}");
}

/// The plugin with these words, knowing of no cluster.
fn plugin(words: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-sera"));
    let output = command.env_clear().env("HOME", "/nowhere").args(words).output().unwrap();
    let told = String::from_utf8([&*output.stdout, &*output.stderr].concat()).unwrap();
    (output, told)
}

#[test]
fn the_plugins_help_has_examples_and_exit_codes() {
    let (output, told) = plugin(&["--help"]);
    assert!(output.status.success());
    for word in ["Usage: kubectl sera", "kubectl sera logs billing --follow", "Exit codes: 0"] {
        assert!(told.contains(word), "{word:?} is not in\n{told}");
    }
}

#[test]
fn the_plugin_says_in_a_line_which_kubeconfig_it_cannot_read() {
    let folder = TempDir::new().unwrap();
    let broken = folder.path().join("kubeconfig");
    fs::write(&broken, "clusters: 7").unwrap();
    let broken = broken.to_str().unwrap();
    for words in [&["status"][..], &["status", "--kubeconfig", "/nowhere/else"], &["status", "--kubeconfig", broken]] {
        let (output, told) = plugin(words);
        assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{words:?}: {told}");
        assert!(told.starts_with("error: ") && told.contains("--kubeconfig"), "{told}");
    }
}

#[test]
fn the_plugin_says_in_a_line_that_no_server_answers() {
    let folder = TempDir::new().unwrap();
    let config = kubeconfig(&folder, &format!("127.0.0.1:{}", free_port()));
    let (output, told) = plugin(&["status", "billing", "--kubeconfig", &config]);
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.starts_with("error: "), "{told}");
}
