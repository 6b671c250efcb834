//! What a driver has around it: keys that nobody may see, a teacher that is away, sandboxes that fail, and somebody who watches.

use std::path::Path;

use sera_crds::contract::{Message, Progress, RolloutOutcome};
use serde_json::json;

use crate::endpoint::{Endpoint, Reply, Then, answer, call};
use crate::support::{About, Place, about, good, sandbox_program, teacher};

/// A key that is looked for wherever this program writes.
const KEY: &str = "sk-planted-0123456789";

/// Every file below a folder that has the key in it, as it is or compressed.
fn places_of_the_key(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(places_of_the_key(&path));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let text = zstd::decode_all(&bytes[..]).unwrap_or(bytes);
        if text.windows(KEY.len()).any(|window| window == KEY.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn the_teachers_key_is_in_no_log_no_record_and_no_sandbox_even_if_the_server_repeats_it() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    let secret = place.path("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("apiKey"), format!("{KEY}\n")).unwrap();
    // The first sample looks for it with a command, the second meets a server that says it in an error.
    let teacher = teacher(|_, request| match about(request) {
        About::First(0) => Some(Reply::Json(answer(&call(
            "bash",
            &json!({"command": "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'"}),
        )))),
        About::First(2) => Some(Reply::Status(422, "", format!("bad key {KEY}"))),
        _ => None,
    })
    .await;
    let mut command = place.rollout(&program, &teacher.url, 2, &json!({}));
    command.args(["--log-level=trace", "--teacher-credentials"]).arg(&secret).env("SERA_OTHER_KEY", KEY);
    let finished = place.finish(command).await.succeeded();
    let record = place.record(0, "t1.json");
    assert_eq!(record.outcome, RolloutOutcome::TeacherError);
    assert!(record.problem.unwrap().contains("[redacted]"));
    assert!(!finished.log.contains(KEY) && !finished.message.contains(KEY));
    assert_eq!(places_of_the_key(&place.path("store")), [""; 0]);
}

#[tokio::test]
async fn commands_on_this_machine_read_neither_what_the_driver_has_nor_what_its_user_keeps_from_others() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::outside_tmp();
    for (name, content) in [
        ("home/notes", "for everybody"),
        ("home/.ssh/id", "for its user"),
        ("secret/apiKey", KEY),
        ("store-secret/AWS_SECRET_ACCESS_KEY", "for the store"),
    ] {
        let file = place.path(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
    // The scratch folder has the files of both slots and the snapshots.
    let folder = place.path("").display().to_string();
    let look = format!(
        "cd {folder}; cat home/notes home/.ssh/id secret/apiKey store-secret/*; ls -R scratch; cat store/snapshot/manifest.json"
    );
    let teacher = teacher(move |_, request| {
        let looking = || Reply::Json(answer(&call("bash", &json!({"command": look}))));
        (about(request) == About::First(0)).then(looking)
    })
    .await;
    let mut command = place.rollout(&program, &teacher.url, 1, &json!({}));
    command.env("HOME", place.path("home"));
    command.arg("--teacher-credentials").arg(place.path("secret"));
    command.arg("--store-credentials").arg(place.path("store-secret"));
    place.finish(command).await.succeeded();
    let record = place.record(0, "t1.json");
    if !record.protections.iter().any(|kept| kept == "mount-namespace" || kept.starts_with("landlock")) {
        assert!(
            std::env::var_os("CI").is_none(),
            "this kernel hides nothing: it has neither mount namespaces nor Landlock"
        );
        eprintln!("left out: this kernel hides nothing");
        return;
    }
    let trajectory = place.trajectory(&record);
    let Message::Tool { content, .. } = &trajectory.messages[3] else { panic!("no observation") };
    assert!(content.contains("for everybody"), "{content}");
    for hidden in ["for its user", KEY, "for the store", "snapshots.git", "tree.tar", "repository.bundle"] {
        assert!(!content.contains(hidden), "{hidden} can be read: {content}");
    }
}

#[tokio::test]
async fn a_teacher_that_is_away_gives_no_sample_an_end_and_the_command_is_worth_another_try() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    for (status, code, reason) in [
        (503, 11, "TeacherUnavailable"),
        (401, 10, "TeacherAccessDenied"),
        (404, 10, "TeacherNotFound"),
        (301, 10, "TeacherRefused"),
    ] {
        let teacher = Endpoint::start(move |_, _| Reply::Status(status, "", "no".into())).await;
        let finished = place.finish(place.rollout(&program, &teacher.url, 2, &json!({}))).await;
        assert_eq!(finished.code, Some(code), "{}", finished.log);
        assert!(finished.message.contains(reason), "{}", finished.message);
        assert!(!place.path("store/rollouts").exists());
    }
    let teacher = Endpoint::start(|_, request| good(&request)).await;
    place.finish(place.rollout(&program, &teacher.url, 2, &json!({}))).await.succeeded();
    assert_eq!(place.outcome(1).second, Some(RolloutOutcome::Submitted));
}

#[tokio::test]
async fn a_teacher_that_takes_no_tools_is_for_its_owner_to_change() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    // As vLLM does without --enable-auto-tool-choice: whatever has none is answered.
    let teacher = teacher(|_, request| {
        let has_tools = request["tools"].as_array().is_some_and(|tools| !tools.is_empty());
        has_tools.then(|| Reply::Status(400, "", "\"auto\" tool choice requires --enable-auto-tool-choice".into()))
    })
    .await;
    let finished = place.finish(place.rollout(&program, &teacher.url, 8, &json!({}))).await;
    assert_eq!(finished.code, Some(10), "{}", finished.log);
    assert!(finished.message.contains("TeacherRefused"), "{}", finished.message);
    assert!(!place.path("store/rollouts").exists());
}

#[tokio::test]
async fn one_conversation_that_breaks_the_teacher_hangs_it_or_is_refused_ends_alone() {
    let Some(program) = sandbox_program() else { return };
    // The status that one call of it meets, or none at all for as long as a rollout may take, and how it ends.
    for (status, at, expected) in [
        (Some(500), About::First(0), RolloutOutcome::TeacherError),
        (Some(422), About::First(0), RolloutOutcome::TeacherError),
        (None, About::First(0), RolloutOutcome::TimeLimit),
        (None, About::Review, RolloutOutcome::TimeLimit),
        (Some(500), About::Review, RolloutOutcome::TimeLimit),
        (Some(422), About::Review, RolloutOutcome::TeacherError),
    ] {
        let place = Place::new();
        let teacher = teacher(move |_, request| {
            let poisoned = request["messages"][1]["content"].as_str().is_some_and(|task| task.contains("`Swap`"));
            (poisoned && about(request) == at).then(|| match status {
                Some(status) => Reply::Status(status, "", "no".into()),
                None => Reply::Raw(Vec::new(), Then::Hang),
            })
        })
        .await;
        let is_short = expected == RolloutOutcome::TimeLimit;
        let plan = if is_short { json!({"agent": {"rolloutTimeout": "6s"}}) } else { json!({}) };
        let mut command = place.rollout(&program, &teacher.url, 8, &plan);
        command.args(["--teacher-retries=3"]);
        place.finish(command).await.succeeded();
        let outcomes: Vec<_> = (0..8).map(|sample| place.outcome(sample)).collect();
        let ended: Vec<(&str, RolloutOutcome)> = outcomes
            .iter()
            .filter(|outcome| outcome.first != RolloutOutcome::Submitted)
            .map(|outcome| (outcome.function.name.as_str(), outcome.first))
            .collect();
        assert_eq!(ended, [("Swap", expected)], "{status:?} at {at:?}");
    }
}

#[tokio::test]
async fn a_teacher_that_says_nothing_to_anybody_is_away_and_no_rollout_is_out_of_time() {
    let Some(program) = sandbox_program() else { return };
    for from in [About::First(0), About::Review] {
        let place = Place::new();
        let silent = std::sync::atomic::AtomicBool::new(false);
        let teacher = teacher(move |_, request| {
            // From then on, nothing at all.
            let begins = about(request) == from;
            let silent = silent.fetch_or(begins, std::sync::atomic::Ordering::SeqCst) || begins;
            silent.then(|| Reply::Raw(Vec::new(), Then::Hang))
        })
        .await;
        let mut command = place.rollout(&program, &teacher.url, 1, &json!({"agent": {"rolloutTimeout": "4s"}}));
        command.args(["--teacher-timeout=2s", "--teacher-retries=9"]);
        let finished = place.finish(command).await;
        assert_eq!(finished.code, Some(11), "{from:?}: {}", finished.log);
        assert!(finished.message.contains("TeacherUnavailable"), "{}", finished.message);
        assert!(!place.path("store/rollouts/b1/0/t1.json").exists());
    }
}

#[tokio::test]
async fn a_setup_that_fails_and_a_program_that_is_missing_are_for_their_owner_to_change() {
    let Some(program) = sandbox_program() else { return };
    let (place, teacher) = (Place::new(), teacher(|_, _| None).await);
    let plan = json!({"environment": {"setup": "echo no such tool >&2; exit 7"}});
    let finished = place.finish(place.rollout(&program, &teacher.url, 1, &plan)).await;
    assert_eq!(finished.code, Some(10), "{}", finished.log);
    assert!(finished.message.contains("SetupFailed"), "{}", finished.message);
    let finished =
        place.finish(place.rollout(Path::new("/nonexistent/sera-sandbox"), &teacher.url, 1, &json!({}))).await;
    assert_eq!(finished.code, Some(10));
    assert!(finished.message.contains("SandboxProgramMissing"), "{}", finished.message);
    assert_eq!(teacher.calls(), 0);
}

#[tokio::test]
async fn whoever_watches_sees_counts_and_no_samples() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    let teacher = teacher(|_, request| match about(request) {
        // The last thing that is asked for keeps the driver where it is.
        About::Second(4) => Some(Reply::Raw(Vec::new(), Then::Hang)),
        _ => None,
    })
    .await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let plan = json!({"budget": {"price": {"inputPerMillion": "1", "cachedInputPerMillion": "0.1", "outputPerMillion": "10"}}});
    let mut command = place.rollout(&program, &teacher.url, 1, &plan);
    command.arg(format!("--listen=127.0.0.1:{port}"));
    let mut child = command.spawn().unwrap();
    while teacher.calls() < 12 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let get = async |path: &str| -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let progress: Progress = serde_json::from_str(&get("/progress").await).unwrap();
    assert_eq!((progress.samples, progress.done, progress.slots, progress.quarantined), (1, 0, 2, 0));
    // 11 answered calls: 10 fresh, 90 cached and 10 written tokens each.
    assert_eq!((progress.usage.calls, progress.cost.unwrap().as_str()), (11, "0.001309"));
    let metrics = get("/metrics").await;
    for line in [
        "sera_rollouts_total{outcome=\"Submitted\",rollout=\"t1\"} 1",
        "sera_rollouts_running 1",
        "sera_teacher_calls_total 11",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    child.kill().await.unwrap();
}

#[tokio::test]
async fn a_sandbox_that_is_killed_ends_its_rollout_and_when_none_is_left_the_rest_waits_for_another_try() {
    let Some(program) = sandbox_program() else { return };
    let place = Place::new();
    let mark = place.path("scratch").display().to_string();
    let teacher = teacher(move |_, request| {
        if about(request) == About::First(2) {
            kill_sandboxes(&mark);
        }
        None
    })
    .await;
    let mut command = place.rollout(&program, &teacher.url, 2, &json!({}));
    command.args(["--slots=1", "--parallel=1"]);
    let finished = place.finish(command).await;
    assert_eq!(finished.code, Some(11), "{}", finished.log);
    assert!(finished.message.contains("SandboxUnavailable"), "{}", finished.message);
    assert_eq!(place.outcome(0).first, RolloutOutcome::EnvironmentError);
    assert!(!place.path("store/rollouts/b1/1").exists());
    let good = Endpoint::start(|_, request| good(&request)).await;
    place.finish(place.rollout(&program, &good.url, 2, &json!({}))).await.succeeded();
    assert_eq!(place.outcome(1).second, Some(RolloutOutcome::Submitted));
}

/// Ends every sandbox whose files are below a folder.
fn kill_sandboxes(folder: &str) {
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let command = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        if command.split('\0').next().is_some_and(|program| program.ends_with("sera-sandbox"))
            && command.contains(folder)
        {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
