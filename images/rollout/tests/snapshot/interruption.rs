//! Stopped at any moment, run again: the result is the same as if nothing had happened, and nothing is left lying about.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sera_git_server::{Behaviour, GitServer, GitServerConfig};

use crate::support::{Place, Snapshot, repository};

/// What a snapshot leaves in the store, in order.
const FILES: [&str; 4] = [
    "snapshot/functions.jsonl.zst",
    "snapshot/manifest.json",
    "snapshot/repository.bundle",
    "snapshot/style.jsonl.zst",
];
/// How often the program is killed.
const KILLS: u32 = 20;

fn send(child: &std::process::Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// The files below a folder, relative to it, in order.
fn files(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn killed_at_any_moment_and_run_again_it_ends_as_if_nothing_had_happened() {
    let place = Place::new();
    let days: Vec<i64> = (0..40).rev().collect();
    // Large enough for an upload in parts.
    let source = repository(&place.path("source.git"), &days, 3 << 20);
    let url = source.to_str().unwrap();
    let begun = Instant::now();
    let undisturbed = place.snapshot(url, "undisturbed").run();
    let usual = begun.elapsed();
    let result = undisturbed.result();

    let mut killed = 0;
    for n in 0..KILLS {
        let mut run = place.snapshot(url, "disturbed");
        let mut child = run.spawn();
        // Spread over the whole of a run, and a moment beyond.
        std::thread::sleep(usual * (2 * n + 1) / (2 * KILLS - 4));
        let _ = child.kill();
        let status = child.wait().unwrap();
        killed += u32::from(status.signal() == Some(9));
        if status.success() {
            break;
        }
    }
    assert!(killed >= KILLS / 2, "only {killed} of {KILLS} were killed in time");
    let finished = place.snapshot(url, "disturbed").run();
    assert_eq!(finished.result(), result);
    assert_eq!(finished.manifest_bytes(), undisturbed.manifest_bytes());
    assert_eq!(finished.bundle_bytes(), undisturbed.bundle_bytes());
    assert_eq!(finished.functions_bytes(), undisturbed.functions_bytes());
    let left: Vec<String> =
        files(&place.path("disturbed")).into_iter().filter(|name| !name.starts_with(".probe-")).collect();
    assert_eq!(left, FILES);
}

#[test]
fn what_killed_runs_left_in_the_scratch_space_is_swept() {
    let place = Place::new();
    repository(&place.path("repositories/a.git"), &[0], 0);
    let server = GitServer::start(GitServerConfig::new(place.path("repositories"))).unwrap();
    server.set_behaviour(Behaviour::Hang);
    let mut child = place.snapshot(&server.url("a.git"), "store").spawn();
    while server.requests() == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read_dir(place.scratch()).unwrap().count(), 1, "SIGKILL leaves no time to tidy up");
    server.set_behaviour(Behaviour::Serve);
    place.snapshot(&server.url("a.git"), "store").run().result();
    assert_eq!(std::fs::read_dir(place.scratch()).unwrap().count(), 0);
}

#[test]
fn sigterm_and_sigint_end_it_within_two_seconds_and_leave_nothing() {
    let place = Place::new();
    repository(&place.path("repositories/a.git"), &[0], 0);
    let server = GitServer::start(GitServerConfig::new(place.path("repositories"))).unwrap();
    server.set_behaviour(Behaviour::Hang);
    for (signal, name) in [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGINT, "SIGINT")] {
        let mut run = place.snapshot(&server.url("a.git"), "store");
        let requests = server.requests();
        let child = run.spawn();
        while server.requests() == requests {
            std::thread::sleep(Duration::from_millis(10));
        }
        let begun = Instant::now();
        send(&child, signal);
        let finished = run.finished(child.wait_with_output().unwrap());
        assert!(begun.elapsed() < Duration::from_secs(2), "{name} took {:?}", begun.elapsed());
        let failure = finished.failure();
        assert_eq!((finished.code, failure.reason.as_str()), (Some(143), "Interrupted"));
        assert!(failure.message.contains(name), "{}", failure.message);
        assert_eq!(std::fs::read_dir(place.scratch()).unwrap().count(), 0, "the scratch folder is gone");
    }
    assert!(!place.path("store/snapshot").exists());
}

#[test]
fn several_at_once_end_with_one_result() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[20, 10, 0], 100_000);
    let mut runs: Vec<_> = (0..4).map(|_| place.snapshot(source.to_str().unwrap(), "store")).collect();
    let children: Vec<_> = runs.iter_mut().map(Snapshot::spawn).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for (run, output) in runs.iter().zip(outputs) {
        // They share the file for the termination message, so only what each printed tells them apart.
        let finished = run.finished(output);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }
    assert_eq!(files(&place.path("store")), FILES);
}
