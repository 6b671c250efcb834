//! A client that is not of our making: mini-swe-agent finishes a task against the rehearsal teacher, where it is installed. docs/rehearsal.md says how
//! to install it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::repository::Repository;
use crate::support::teacher::Teacher;

/// The variable that names the program; without it, it is looked for on the PATH.
const PROGRAM: &str = "SERA_MINI_SWE_AGENT";

fn program() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os(PROGRAM) {
        return Some(program.into());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join("mini-swe-agent")).find(|program| program.is_file())
}

/// Lets mini-swe-agent work on a task with one of its own configurations, and gives what it recorded.
fn record(program: &PathBuf, teacher: &Teacher, repository: &Repository, task: &str, arguments: &[&str]) -> Value {
    let home = tempfile::tempdir().unwrap();
    let trajectory = home.path().join("trajectory.json");
    let output = Command::new(program)
        .args(["--model", "openai/rehearsal", "--yolo", "--exit-immediately", "--task", task, "--output"])
        .arg(&trajectory)
        .args(arguments)
        .current_dir(repository.path())
        .envs([("HOME", home.path()), ("MSWEA_GLOBAL_CONFIG_DIR", home.path())])
        .envs([
            ("MSWEA_CONFIGURED", "true"),
            ("MSWEA_COST_TRACKING", "ignore_errors"),
            ("MSWEA_SILENT_STARTUP", "1"),
            ("OPENAI_API_KEY", "none"),
        ])
        .env("OPENAI_API_BASE", format!("http://{}/v1", teacher.address))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&std::fs::read_to_string(trajectory).unwrap()).unwrap()
}

#[test]
fn mini_swe_agent_finishes_a_task() {
    let Some(program) = program() else {
        eprintln!(
            "left out: mini-swe-agent is not installed (pip install mini-swe-agent, and set {PROGRAM} to its program)"
        );
        return;
    };
    let teacher = Teacher::start(&[]);
    let task =
        "`Session.send` carries on with a missing value as if it were there. It shows in the session part of net.";
    for arguments in [&["-c", "mini.yaml"][..], &["-c", "mini_textbased.yaml", "--model-class", "litellm_textbased"]] {
        let repository = Repository::new();
        let recorded = record(&program, &teacher, &repository, task, arguments);
        assert_eq!(recorded["info"]["exit_status"], "Submitted", "{arguments:?}: {}", recorded["messages"]);
        let patch = repository.diff();
        assert!(patch.contains("net/session.py") && patch.contains("\n+"), "{arguments:?}: {patch}");
    }
}
